//! The interface for tasks has each method of the blocking interface, with the same parameters and result. The
//! test reads both interfaces from the source code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Fields, Ident, ImplItem, Item, ReturnType, Signature, TraitItemFn, Visibility};

/// Blocking types that have a corresponding type for tasks but do not hold an `Arc<Inner>`, each with the name of
/// that type.
const COUNTERPARTS: &[(&str, &str)] = &[
    ("StorageLock", "AsyncStorageLock"),
    ("Taken", "AsyncTaken"),
    ("Listing", "ItemStream"),
    ("EventReader", "EventStream"),
    ("Follow", "FollowStream"),
    ("FollowAll", "FollowAllStream"),
];

/// Methods that only the blocking interface has, with the reason.
const BLOCKING_ONLY: &[(&str, &str)] = &[
    (
        "Events::read_lines",
        "each line is lent, which a stream can't do: read `Box<RawValue>`",
    ),
    (
        "Events::tail_lines",
        "each line is lent, which a stream can't do: read `Box<RawValue>`",
    ),
    (
        "Repo::follow_lines",
        "each line is lent, which a stream can't do: follow `Box<RawValue>`",
    ),
    (
        "Storage::follow_lines",
        "each line is lent, which a stream can't do: follow `Box<RawValue>`",
    ),
    ("FollowAllLines::cursor", "of `Repo::follow_lines`"),
    ("FollowAllLines::handle", "of `Repo::follow_lines`"),
    ("FollowAllLines::next", "of `Repo::follow_lines`"),
    ("FollowAllLines::wait", "of `Repo::follow_lines`"),
    (
        "Events::follow_lines",
        "each line is lent, which a stream can't do: follow `Box<RawValue>`",
    ),
];

/// Methods that only the interface for tasks has, with the reason.
const TASKS_ONLY: &[(&str, &str)] = &[
    ("Storage::blocking", "the way to the blocking handle"),
    ("Taken::item", "a public field of the blocking one"),
    ("Taken::lease", "a public field of the blocking one"),
    ("Listing::next", "in place of `Iterator`"),
    ("EventReader::next", "in place of `Iterator`"),
    ("Follow::next", "in place of `Iterator`"),
    ("FollowAll::next", "in place of `Iterator`"),
];

/// Pairs of types that correspond to each other: for tasks, and blocking.
const SAME: &[(&str, &str)] = &[
    ("Call<", "Result<"),
    ("ItemStream<DlqItem>", "DlqScan"),
    (
        "ItemStream<DlqSummary>",
        "implIterator<Item=Result<DlqSummary>>+use<>",
    ),
    (
        "ItemStream<JobOrphans>",
        "implIterator<Item=Result<JobOrphans>>+use<>",
    ),
    ("ItemStream<", "Listing<"),
    ("EventStream<", "EventReader<"),
    ("FollowStream<", "Follow<"),
    ("FollowAllStream<", "FollowAll<"),
    ("&'bmutBatch", "&mutBatch"),
    (
        "implFuture<Output=Result<Appended>>+Send+use<'b>",
        "Result<Appended>",
    ),
    (
        "implAsyncFn(&DlqItem)->Outcome+Send+Sync+'static",
        "implFn(&DlqItem)->Outcome+Sync",
    ),
];

/// The public methods by `Type::name`, each with its signature as text without white space.
type Methods = BTreeMap<String, String>;

/// The rows of the macro for one type: `Async of Sync { fn ..; }`, or with `as Type` after the names.
struct Rows {
    blocking: Ident,
    methods: Vec<TraitItemFn>,
}

impl Parse for Rows {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.call(Attribute::parse_outer)?;
        input.parse::<Ident>()?;
        input.parse::<Ident>()?;
        let blocking = input.parse()?;
        if input.parse::<Option<syn::Token![as]>>()?.is_some() {
            input.parse::<syn::Type>()?;
        }
        let content;
        syn::braced!(content in input);
        let mut methods = Vec::new();
        while !content.is_empty() {
            methods.push(content.parse()?);
        }
        Ok(Self { blocking, methods })
    }
}

fn text(tokens: impl ToTokens) -> String {
    let text: String = tokens.to_token_stream().to_string();
    text.split_whitespace().collect()
}

/// All items in the source files of a folder. The folder `except` is left out.
fn items(folder: &Path, except: &str) -> Vec<Item> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().unwrap() != except {
                found.extend(items(&path, except));
            }
        } else {
            found.extend(
                syn::parse_file(&std::fs::read_to_string(&path).unwrap())
                    .unwrap()
                    .items,
            );
        }
    }
    found
}

fn source() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The name, the parameters and the result of a method. For an `async fn`, the result of its future is used.
fn shape(signature: &Signature, result: &str) -> String {
    let generics = text(&signature.generics);
    let generics = generics.replace("+Send+'static", "");
    let inputs: Vec<String> = signature
        .inputs
        .iter()
        .map(|input| match text(input).as_str() {
            "mutself" => "self".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    format!(
        "{}{}({})->{result}{}",
        signature.ident,
        generics.replace("<'b>", ""),
        inputs.join(","),
        signature
            .generics
            .where_clause
            .as_ref()
            .map(text)
            .unwrap_or_default()
            .trim_end_matches(','),
    )
}

fn returned(signature: &Signature) -> String {
    match &signature.output {
        ReturnType::Default => "()".to_owned(),
        ReturnType::Type(_, returned) => text(returned),
    }
}

/// The public methods of the types for which `wanted` returns a name, under that name.
fn written(items: &[Item], wanted: impl Fn(&str) -> Option<String>) -> Methods {
    let mut methods = Methods::new();
    for item in items {
        let Item::Impl(block) = item else { continue };
        let name = text(&block.self_ty);
        let name = name.split('<').next().unwrap();
        let Some(name) = wanted(name).filter(|_| block.trait_.is_none()) else {
            continue;
        };
        for item in &block.items {
            if let ImplItem::Fn(method) = item
                && matches!(method.vis, Visibility::Public(_))
            {
                let key = format!("{name}::{}", method.sig.ident);
                methods.insert(key, shape(&method.sig, &returned(&method.sig)));
            }
        }
    }
    methods
}

fn handles(items: &[Item]) -> BTreeSet<String> {
    let mut handles = BTreeSet::new();
    for item in items {
        if let Item::Struct(found) = item
            && let Fields::Named(fields) = &found.fields
            && matches!(found.vis, Visibility::Public(_))
            && fields.named.iter().any(|field| text(&field.ty) == "Arc<Inner>")
        {
            handles.insert(found.ident.to_string());
        }
    }
    handles
}

/// A signature of the interface for tasks, with the names of the blocking types.
fn blocking_words(shape: &str) -> String {
    let mut shape = shape.replace("Async", "").replace(
        "implFn(&DlqItem)->Outcome+Send+Sync+'static",
        "implFn(&DlqItem)->Outcome+Sync",
    );
    for (tasks, blocking) in SAME {
        shape = shape.replace(tasks, blocking);
    }
    shape
}

fn both() -> (Methods, Methods) {
    let items_of_both = items(&source(), "asynchronous");
    let tasks = items(&source().join("asynchronous"), "");
    let handles = handles(&items_of_both);
    assert!(handles.len() >= 8, "{handles:?}");
    let blocking = written(&items_of_both, |name| {
        let is_counterpart = COUNTERPARTS.iter().any(|(blocking, _)| *blocking == name);
        (handles.contains(name) || is_counterpart).then(|| name.to_owned())
    });
    let mut of_tasks = written(&tasks, |name| {
        match COUNTERPARTS.iter().find(|(_, tasks)| *tasks == name) {
            Some((blocking, _)) => Some((*blocking).to_owned()),
            None => name.strip_prefix("Async").map(str::to_owned),
        }
    });
    for item in tasks {
        let Item::Macro(found) = item else { continue };
        if !found.mac.path.is_ident("mirror") {
            continue;
        }
        let rows: Rows = found.mac.parse_body().unwrap();
        for row in rows.methods {
            let returned = match row.sig.asyncness.is_some() {
                true => format!("Result<{}>", returned(&row.sig)),
                false => returned(&row.sig),
            };
            of_tasks.insert(
                format!("{}::{}", rows.blocking, row.sig.ident),
                shape(&row.sig, &returned),
            );
        }
    }
    for shape in of_tasks.values_mut() {
        *shape = blocking_words(shape);
    }
    (blocking, of_tasks)
}

#[test]
fn every_method_has_its_counterpart_with_the_same_parameters_and_result() {
    let (blocking, tasks) = both();
    assert!(blocking.len() > 80, "{}", blocking.len());
    let mut wrong = Vec::new();
    for (name, shape) in &blocking {
        let excepted = BLOCKING_ONLY.iter().any(|(excepted, _)| excepted == name);
        match tasks.get(name) {
            Some(_) if excepted => wrong.push(format!("{name} is in `BLOCKING_ONLY`, and tasks have it")),
            None if excepted => {}
            None => wrong.push(format!(
                "tasks have no {name}: add a row to the handle in src/asynchronous"
            )),
            Some(found) if found != shape => {
                wrong.push(format!("{name}\n  blocking {shape}\n  tasks    {found}"));
            }
            Some(_) => {}
        }
    }
    for name in tasks.keys().filter(|name| !blocking.contains_key(*name)) {
        if !TASKS_ONLY.iter().any(|(excepted, _)| excepted == name) {
            wrong.push(format!("only tasks have {name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_exception_is_for_a_method_that_is_not_there() {
    let (blocking, tasks) = both();
    let gone = BLOCKING_ONLY
        .iter()
        .filter(|(name, _)| !blocking.contains_key(*name));
    let gone = gone.chain(TASKS_ONLY.iter().filter(|(name, _)| !tasks.contains_key(*name)));
    assert_eq!(
        gone.map(|(name, _)| *name).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
}
