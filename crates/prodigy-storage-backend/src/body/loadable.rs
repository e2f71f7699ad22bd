//! Refuses values that JSON can only store in a form that their type does not load.
//!
//! `serde_json` writes NaN and infinities as `null`, and writes a name twice if a flattened map has a key with the
//! name of a field. Both are refused here, by a wrapper around the serialiser. At run time it costs a check of
//! each float, and of each name in an object of unknown length, which is how `#[serde(flatten)]` writes objects.
//!
//! A refused value is serialised a second time, without output, to find the path of the field.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::path::{Path, Step};

/// The texts of the two errors of this module. A caller recognises these errors by their texts.
pub(super) const NOT_FINITE: &str = "it is NaN or infinite, and JSON has no such number";
pub(super) const TWICE: &str = "its object has this name twice";

/// Records the path from the top of a value to the part that is serialised now. `()` records nothing and costs
/// nothing.
pub(super) trait Trail: Copy {
    fn enter(self, step: impl FnOnce() -> Step);
    fn leave(self);
}

impl Trail for () {
    #[inline]
    fn enter(self, _: impl FnOnce() -> Step) {}

    #[inline]
    fn leave(self) {}
}

impl Trail for &RefCell<Path> {
    fn enter(self, step: impl FnOnce() -> Step) {
        self.borrow_mut().push(step());
    }

    fn leave(self) {
        self.borrow_mut().pop();
    }
}

/// Serialises like the inner value, but fails if the value would not load again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loadable<'a, T: ?Sized, P = ()> {
    value: &'a T,
    trail: P,
    /// Set while the name of a field is serialised: receives the hash of the name.
    name: Option<&'a Cell<Option<u64>>>,
}

impl<'a, T: Serialize + ?Sized> Loadable<'a, T> {
    pub(crate) fn new(value: &'a T) -> Self {
        Loadable {
            value,
            trail: (),
            name: None,
        }
    }
}

/// The path at which a value fails to serialise, and the error; `None` if it does not fail the second time.
#[cold]
pub(super) fn locate<T: Serialize + ?Sized>(value: &T) -> Option<(Path, serde_json::Error)> {
    let path = RefCell::new(Path::default());
    let traced = Loadable {
        value,
        trail: &path,
        name: None,
    };
    let error = serde_json::to_writer(std::io::sink(), &traced).err()?;
    Some((path.into_inner(), error))
}

impl<T: Serialize + ?Sized, P: Trail> Serialize for Loadable<'_, T, P> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Checked {
            inner: serializer,
            trail: self.trail,
            name: self.name,
        })
    }
}

struct Checked<'n, S, P> {
    inner: S,
    trail: P,
    name: Option<&'n Cell<Option<u64>>>,
}

impl<S, P: Copy> Checked<'_, S, P> {
    #[inline]
    fn note(&self, text: &str) {
        if let Some(name) = self.name {
            name.set(Some(hash(text)));
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Declares methods that only call the method of the same name of the inner serialiser.
macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {$(
        #[inline]
        fn $method(self, $($argument: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($argument),*)
        }
    )*};
}

macro_rules! finite {
    ($($method:ident: $type:ty),*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            if !value.is_finite() {
                return Err(S::Error::custom(NOT_FINITE));
            }
            self.inner.$method(value)
        }
    )*};
}

/// Declares methods that begin a value with elements or fields. For an enum's variant they first add its name to
/// the path.
macro_rules! begin {
    ($($method:ident($($argument:ident: $type:ty),*) -> $inside:ident $(enters $variant:ident)?;)*) => {$(
        #[inline]
        fn $method(self, $($argument: $type),*) -> Result<Self::$inside, S::Error> {
            $(self.trail.enter(|| Step::name($variant));)?
            Ok(Inside::new(self.inner.$method($($argument),*)?, self.trail))
        }
    )*};
}

impl<'n, S: Serializer, P: Trail> Serializer for Checked<'n, S, P> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Inside<S::SerializeSeq, P>;
    type SerializeTuple = Inside<S::SerializeTuple, P>;
    type SerializeTupleStruct = Inside<S::SerializeTupleStruct, P>;
    type SerializeTupleVariant = Inside<S::SerializeTupleVariant, P>;
    type SerializeMap = Inside<S::SerializeMap, P>;
    type SerializeStruct = Inside<S::SerializeStruct, P>;
    type SerializeStructVariant = Inside<S::SerializeStructVariant, P>;

    forward! {
        serialize_bool(value: bool),
        serialize_i8(value: i8), serialize_i16(value: i16), serialize_i32(value: i32), serialize_i64(value: i64),
        serialize_i128(value: i128),
        serialize_u8(value: u8), serialize_u16(value: u16), serialize_u32(value: u32), serialize_u64(value: u64),
        serialize_u128(value: u128),
        serialize_char(value: char),
        serialize_bytes(value: &[u8]),
        serialize_none(),
        serialize_unit(),
        serialize_unit_struct(name: &'static str),
    }

    finite!(serialize_f32: f32, serialize_f64: f64);

    begin! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant enters variant;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant enters variant;
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        self.note(value);
        self.inner.serialize_str(value)
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, trail, name } = self;
        inner.serialize_some(&Loadable { value, trail, name })
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.note(variant);
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        type_name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Self { inner, trail, name } = self;
        inner.serialize_newtype_struct(type_name, &Loadable { value, trail, name })
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Self { inner, trail, .. } = self;
        trail.enter(|| Step::name(variant));
        let value = Loadable {
            value,
            trail,
            name: None,
        };
        let written = inner.serialize_newtype_variant(name, index, variant, &value)?;
        trail.leave();
        Ok(written)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let mut inside = Inside::new(self.inner.serialize_map(len)?, self.trail);
        // A map of known length never has a key twice.
        inside.names = len.is_none().then(Names::default);
        Ok(inside)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The hashes of the names of an object. It is practically impossible that two names of an object have the same
/// hash.
#[derive(Default)]
struct Names {
    few: Vec<u64>,
    many: HashSet<u64>,
}

impl Names {
    const FEW: usize = 16;

    /// False for a name that was inserted before.
    fn insert(&mut self, name: u64) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }
}

/// Serialises the elements or fields of a value.
struct Inside<C, P> {
    inner: C,
    trail: P,
    at: usize,
    names: Option<Names>,
}

impl<C, P: Trail> Inside<C, P> {
    #[inline]
    fn new(inner: C, trail: P) -> Self {
        Self {
            inner,
            trail,
            at: 0,
            names: None,
        }
    }

    #[inline]
    fn value<'a, T: ?Sized>(&self, value: &'a T) -> Loadable<'a, T, P> {
        Loadable {
            value,
            trail: self.trail,
            name: None,
        }
    }

    #[inline]
    fn step(&mut self) {
        let at = self.at;
        self.trail.enter(|| Step::Index(at));
        self.at += 1;
    }
}

/// Declares the methods that serialise the elements of a value. The end of an enum's variant removes its name from
/// the path.
macro_rules! elements {
    ($($trait:ident::$method:ident $(, $leave:ident)?;)*) => {$(
        impl<C: $trait, P: Trail> $trait for Inside<C, P> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.step();
                let value = self.value(value);
                self.inner.$method(&value)?;
                self.trail.leave();
                Ok(())
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                $(self.trail.$leave();)?
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field, leave;
}

/// Declares the methods that serialise the fields of a value, in the way of `elements!`.
macro_rules! fields {
    ($($trait:ident $(, $leave:ident)?;)*) => {$(
        impl<C: $trait, P: Trail> $trait for Inside<C, P> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.trail.enter(|| Step::name(name));
                let value = self.value(value);
                self.inner.serialize_field(name, &value)?;
                self.trail.leave();
                Ok(())
            }

            #[inline]
            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(name)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                $(self.trail.$leave();)?
                self.inner.end()
            }
        }
    )*};
}

fields! {
    SerializeStruct;
    SerializeStructVariant, leave;
}

impl<C: SerializeMap, P: Trail> SerializeMap for Inside<C, P> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.trail.enter(|| Step::key(key));
        let hash = Cell::new(None);
        let name = self.names.is_some().then_some(&hash);
        self.inner.serialize_key(&Loadable {
            value: key,
            trail: (),
            name,
        })?;
        if let (Some(names), Some(hash)) = (&mut self.names, hash.get())
            && !names.insert(hash)
        {
            return Err(C::Error::custom(TWICE));
        }
        Ok(())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = self.value(value);
        self.inner.serialize_value(&value)?;
        self.trail.leave();
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
