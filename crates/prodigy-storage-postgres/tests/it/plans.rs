//! The query plans of all statements, which the server writes to its log.

use std::collections::BTreeSet;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Backend, Batch, Body, Catalog, Change, Claim, Deadline, DocumentStore, Durability,
    Expected, Fence, ItemId, LockOptions, LockStore, LogStore, PageOptions, PutOptions, QueueEntry,
    QueueItem, QueueStore, ScanOptions, Select, Settlement, WaitOptions,
};
use prodigy_storage_layout::{Document, DocumentScope, JobAddress, LockName, Phase, RepoName, Timestamp};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::job;
use crate::server::Server;

/// Makes the server log the plan of each statement, in sessions that begin after this call.
pub fn explain(server: &Server) {
    let settings = [
        "load 'auto_explain'",
        "alter system set session_preload_libraries = 'auto_explain'",
        "alter system set auto_explain.log_min_duration = 0",
        "select pg_reload_conf()",
    ];
    let mut psql = server.psql_command();
    for setting in settings {
        psql.args(["-c", setting]);
    }
    assert!(psql.output().unwrap().status.success());
    while server.psql("show auto_explain.log_min_duration").trim() != "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The tables whose number of rows grows with use.
const TABLES: [&str; 7] = ["document", "event", "fence", "item", "job", "lock", "writer"];

/// The statements in the log that read one of these tables from end to end, each with its plan.
pub fn scans(log: &str) -> BTreeSet<String> {
    let plans = log.split(" plan:\n").skip(1);
    let plans = plans.map(|plan| {
        let lines: Vec<&str> = plan.lines().take_while(|line| line.starts_with('\t')).collect();
        lines.join("\n")
    });
    let is_scan = |plan: &String| {
        let mut tables = plan.split("Seq Scan on ").skip(1);
        tables.any(|table| {
            TABLES
                .iter()
                .any(|name| table.split_whitespace().next() == Some(name))
        })
    };
    plans.filter(is_scan).collect()
}

#[test]
fn a_scan_of_a_whole_table_is_seen() {
    let Some(server) = Server::start() else { return };
    explain(&server);
    server.psql("create table item as select n from generate_series(1, 1000) n");
    server.psql("select * from item where n = 7");
    let scans = scans(&server.log());
    assert!(scans.iter().any(|scan| scan.contains("n = 7")), "{scans:?}");
}

/// Fills the tables with rows, of which one in a hundred belongs to the job `a`.
fn fill(server: &Server, rows: usize) {
    let job = "1 + n % 100";
    let id =
        "(lpad(to_hex(1700000000000 + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid";
    let statements = [
        format!(
            "insert into prodigy.job (repo, name) select 'shop' || n % 10, 'job' || n from generate_series(1, {}) n",
            rows / 10
        ),
        format!(
            "insert into prodigy.writer select {job}, 1000 + n, n % 2 = 0, now() - interval '1 day' from generate_series(1, {}) n",
            rows / 10
        ),
        format!(
            "insert into prodigy.event select {job}, 1000 + n / 1000, n, {id}, n, 'x' from generate_series(1, {rows}) n"
        ),
        format!(
            "insert into prodigy.document select {job}, ('\\x01' || int8send(n) || 'key'::bytea), 'shop', 1, 'map', null, \
             (select path from prodigy.document limit 1), gen_random_uuid(), n, 'x' from generate_series(1, {rows}) n"
        ),
        format!(
            "insert into prodigy.item (job, birth, id, place, revision, token, leased_until, eligible, failures, modified, body) \
             select {job}, n, ('item-' || n)::bytea, n, n, case when n % 7 = 0 then 'token-' || n end, \
             case when n % 7 = 0 then 1 end, true, 1, n, convert_to('{{\"item_id\":\"item-' || n || '\"}}', 'UTF8') \
             from generate_series(1, {rows}) n"
        ),
        format!("select setval('prodigy.mark', {rows})"),
        format!(
            "insert into prodigy.lock select 'shop/lock' || n, n, '', null, now() from generate_series(1, {}) n",
            rows / 10
        ),
        format!(
            "insert into prodigy.fence select 'shop', 'job' || n, 'lock', n from generate_series(1, {}) n",
            rows / 10
        ),
        "vacuum analyze".to_owned(),
    ];
    for statement in statements {
        server.psql(&statement);
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// Calls every method of the backend for a job. The results are not checked here, but by the conformance suite.
fn call_everything(backend: &PostgresBackend, of: &JobAddress, round: u64) {
    let log = |batch: &mut Batch| backend.append(of, batch, &AppendOptions::default(), soon());
    let mut batch = Batch::new();
    batch.push("event").unwrap();
    log(&mut batch).unwrap();
    log(&mut batch).unwrap();
    let mut scan = backend.scan(of, &ScanOptions::all(), soon()).unwrap();
    let mut cursor = scan.cursor();
    for _ in 0..600 {
        scan.next().unwrap();
        cursor = scan.cursor();
    }
    let _ = backend
        .scan(of, &ScanOptions::after(cursor.clone()), soon())
        .unwrap()
        .next();
    let _ = backend.tail(of, 3, None, soon()).unwrap().next();
    let end = backend.end(of, soon()).unwrap();
    let _ = backend
        .scan(of, &ScanOptions::after(end.clone()), soon())
        .unwrap()
        .next();
    for cursor in [&cursor, &end] {
        let _ = backend.wait(
            of,
            cursor,
            &WaitOptions::default(),
            Deadline::after(Duration::from_millis(50)),
        );
    }
    backend.log_summary(of, soon()).unwrap();
    backend.persist(of, &end, soon()).unwrap();

    let guard = backend
        .lock(
            &LockName::new("shop/mine").unwrap(),
            &LockOptions::default(),
            soon(),
        )
        .unwrap();
    let fence = Fence::new(guard.name().clone(), guard.fencing()).unwrap();
    let mut fenced = Batch::new();
    fenced.push("event").unwrap();
    fenced.set_fence(Some(&fence));
    log(&mut fenced).unwrap();
    backend.locks(&PageOptions::default(), soon()).unwrap();
    drop(guard);

    let strict = || PutOptions::new(Durability::Strict);
    let body = || Body::parse(b"{}").unwrap();
    let document = Document::Setup(of.clone());
    let revision = backend.put(&document, body(), &strict(), soon()).unwrap();
    let _ = backend.put(&document, body(), &strict().expect(Expected::Absent), soon());
    backend
        .put(
            &document,
            body(),
            &strict().expect(Expected::Revision(revision)),
            soon(),
        )
        .unwrap();
    backend
        .put(&document, body(), &strict().fencing(Some(fence.clone())), soon())
        .unwrap();
    backend.get(&document, soon()).unwrap();
    backend.revision(&document, soon()).unwrap();
    let added = backend.add(of, Phase::Map, body(), &strict(), soon()).unwrap();
    let _ = backend.newest(of, Phase::Map, None, soon());
    let _ = backend.newest(of, Phase::Map, Some(&added.document), soon());
    for scope in [
        DocumentScope::Checkpoints(of.clone(), Phase::Map),
        DocumentScope::Job(of.clone()),
        DocumentScope::Orphans(of.repo.clone()),
        DocumentScope::Repositories,
    ] {
        let _ = backend.list(&scope, &PageOptions::default(), soon());
    }
    backend
        .delete(&added.document, Expected::Any, Durability::Strict, None, soon())
        .unwrap();
    backend
        .delete(&document, Expected::Any, Durability::Strict, Some(&fence), soon())
        .unwrap();

    let item = |name: String| {
        let body = format!("{{\"item_id\":\"{name}\",\"item_data\":1}}");
        QueueItem {
            id: ItemId::new(name).unwrap(),
            body: serde_json::from_str(&body).unwrap(),
        }
    };
    let items: Vec<QueueItem> = (0..5).map(|n| item(format!("new-{round}-{n}"))).collect();
    backend
        .queue_put(of, &items, Durability::Strict, None, soon())
        .unwrap();
    backend.queue_get(of, &items[0].id, soon()).unwrap();
    backend.queue_scan(of, &Select::any(), soon()).unwrap().next();
    backend.queue_summary(of, soon()).unwrap();
    let minute = Duration::from_secs(60);
    let taken = backend
        .queue_take(of, &Select::eligible(), 3, minute, None, soon())
        .unwrap();
    let claims = taken
        .iter()
        .map(|entry| Claim::Lease(entry.lease.as_ref().unwrap().token.clone()));
    let mut claims = claims.collect::<Vec<_>>().into_iter();
    let by_id = Select::ids([items[4].id.clone()]);
    backend
        .queue_take(of, &by_id, 1, minute, Some(&fence), soon())
        .unwrap();
    let settle = |claim: Option<Claim>, change: Change| {
        let settlement = Settlement::new(claim.unwrap(), change);
        backend.queue_settle(of, &[settlement], None, soon()).unwrap();
    };
    settle(claims.next(), Change::Remove);
    settle(
        claims.next(),
        Change::Release {
            delay: Duration::ZERO,
        },
    );
    settle(claims.next(), Change::Extend(minute));
    settle(
        Some(Claim::Item(items[1].id.clone())),
        Change::Park { reason: None },
    );
    settle(Some(Claim::Item(items[2].id.clone())), Change::Remove);

    let everything: &dyn Backend = backend;
    everything.repositories(&PageOptions::default(), soon()).unwrap();
    backend.jobs(&of.repo, &PageOptions::default(), soon()).unwrap();
    backend.is_active(&of.repo, soon()).unwrap();
    backend.activity(of, soon()).unwrap();
    for repo in [of.repo.clone(), RepoName::new("shop7").unwrap()] {
        let surveyed = backend.survey(&repo, &PageOptions::default(), soon()).unwrap();
        assert!(!surveyed.entries.is_empty(), "no job of {repo}");
    }
    backend.seal(of, soon()).unwrap();
    backend.health(soon()).unwrap();
    backend.flush(soon()).unwrap();
}

fn plans_with(rows: usize) {
    let Some(server) = Server::start() else { return };
    let open = || PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    // The first job gets the id 1, to which the rows refer. Its checkpoint has the path that all rows have.
    open()
        .append(&job("a"), &mut one(), &AppendOptions::default(), soon())
        .unwrap();
    open()
        .add(
            &job("a"),
            Phase::Map,
            Body::parse(b"{}").unwrap(),
            &PutOptions::new(Durability::Strict),
            soon(),
        )
        .unwrap();
    fill(&server, rows);
    explain(&server);
    let backend = open();
    // After five calls of a prepared statement, the server may choose a plan that it uses for all later calls.
    for round in 0..7 {
        call_everything(&backend, &job("a"), round);
    }
    // This time is later than that of any event. The events of the newest writer are kept even so.
    let before = Timestamp::from_millis(8_000_000_000_000);
    let removable = backend.removable_before(&job("a"), before, soon()).unwrap();
    let removed = backend.remove_before(&job("a"), before, None, soon()).unwrap();
    assert!(
        removable.segments > 0 && removed == removable,
        "{removable:?} {removed:?}"
    );
    let old = job("job7");
    backend
        .delete_job(
            &JobAddress::new(RepoName::new("shop7").unwrap(), old.job),
            None,
            soon(),
        )
        .unwrap();
    drop(backend);
    let log = server.log();
    assert!(log.matches("Index").count() > 100, "no plans were logged");
    let scans = scans(&log);
    assert!(scans.is_empty(), "{scans:#?}");
    for statement in [
        "delete from \"prodigy\".event where",
        "select j.name, (",
        "select c.id from",
        "select case when c.number = 0",
    ] {
        assert!(log.contains(statement), "{statement} was not planned");
    }
}

fn one() -> Batch {
    let mut batch = Batch::new();
    batch.push("event").unwrap();
    batch
}

/// If one job has all rows, the server expects to find a row of the job at once, wherever in the table it begins
/// to read.
#[test]
fn frequent_statements_use_an_index_where_one_job_has_all_rows() {
    let Some(server) = Server::start() else { return };
    let open = || PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    open()
        .append(&job("a"), &mut one(), &AppendOptions::default(), soon())
        .unwrap();
    // A table of only a few pages would be read from end to end in any case, so this one gets more rows.
    let id = "(lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid";
    server.psql(&format!(
        "insert into prodigy.event select 1, 1, 1 + n, {id}, 1, repeat('x', 200)::bytea from generate_series(1, 20000) n; \
         insert into prodigy.item (job, birth, id, place, revision, eligible, failures, modified, body) \
           select 1, n, ('item-' || n)::bytea, n, n, true, 0, 1, \
             convert_to('{{\"item_id\":\"item-' || n || '\"}}', 'UTF8') from generate_series(1, 20000) n; \
         select setval('prodigy.mark', 20000)"
    ));
    server.psql("vacuum analyze");
    explain(&server);
    let backend = open();
    for _ in 0..8 {
        backend
            .append(&job("a"), &mut one(), &AppendOptions::default(), soon())
            .unwrap();
        let taken = backend
            .queue_take(
                &job("a"),
                &Select::eligible(),
                5,
                Duration::from_secs(60),
                None,
                soon(),
            )
            .unwrap();
        assert_eq!(taken.len(), 5);
        let lease = |entry: &QueueEntry| entry.lease.as_ref().unwrap().token.clone();
        let settle: Vec<_> = taken
            .iter()
            .map(|entry| Settlement::new(Claim::Lease(lease(entry)), Change::Remove))
            .collect();
        backend.queue_settle(&job("a"), &settle, None, soon()).unwrap();
        // This job has only documents.
        backend
            .add(
                &job("b"),
                Phase::Map,
                Body::parse(b"{}").unwrap(),
                &PutOptions::new(Durability::Strict),
                soon(),
            )
            .unwrap();
        let repo = RepoName::new("shop").unwrap();
        backend.jobs(&repo, &PageOptions::default(), soon()).unwrap();
    }
    drop(backend);
    let scans: Vec<String> = scans(&server.log())
        .into_iter()
        .filter(|plan| {
            ["event", "item"]
                .iter()
                .any(|table| plan.contains(&format!("Seq Scan on {table}")))
        })
        .collect();
    assert!(scans.is_empty(), "{scans:#?}");
}

#[test]
fn statements_use_an_index_at_100_000_rows() {
    plans_with(100_000);
}

#[test]
#[ignore = "takes minutes"]
fn statements_use_an_index_at_a_million_rows() {
    plans_with(1_000_000);
}
