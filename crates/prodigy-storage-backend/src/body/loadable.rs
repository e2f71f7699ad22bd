//! Refusing what JSON can hold only as something else, which its own type then does not load.
//!
//! `serde_json` writes NaN and infinities as `null`, and writes a name twice where a flattened map holds the name of a
//! field. Both are refused here. A wrapper around the serialiser sees each call: it is compiled away except a check of each
//! float, and at the names of objects whose length is not known, as `#[serde(flatten)]` writes them.
//!
//! Where a value is refused it is serialised a second time, to nowhere, to find the path of the field.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::path::{Path, Step};

/// The words of an error that names no type of `serde_json`.
pub(super) const NOT_FINITE: &str = "it is NaN or infinite, and JSON has no such number";
pub(super) const TWICE: &str = "its object has this name twice";

/// Follows the place in a value. `()` follows nothing and costs nothing.
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

/// A value that fails to serialise where it would not load again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loadable<'a, T: ?Sized, P = ()> {
    value: &'a T,
    trail: P,
    /// Where to leave the hash of a name, if the value is one.
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

/// Where a value fails to serialise, and why; `None` if it does not, a second time.
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

macro_rules! forward {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
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
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_char: char,
        serialize_bytes: &[u8],
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if !value.is_finite() {
            return Err(S::Error::custom(NOT_FINITE));
        }
        self.inner.serialize_f32(value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if !value.is_finite() {
            return Err(S::Error::custom(NOT_FINITE));
        }
        self.inner.serialize_f64(value)
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
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, trail, name } = self;
        inner.serialize_some(&Loadable { value, trail, name })
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_struct(name)
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
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Inside::new(self.inner.serialize_seq(len)?, self.trail))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Inside::new(self.inner.serialize_tuple(len)?, self.trail))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let inner = self.inner.serialize_tuple_struct(name, len)?;
        Ok(Inside::new(inner, self.trail))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.trail.enter(|| Step::name(variant));
        let inner = self.inner.serialize_tuple_variant(name, index, variant, len)?;
        Ok(Inside::new(inner, self.trail))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let mut inside = Inside::new(self.inner.serialize_map(len)?, self.trail);
        // A map that knows its length has each key once.
        inside.names = len.is_none().then(Names::default);
        Ok(inside)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Inside::new(self.inner.serialize_struct(name, len)?, self.trail))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.trail.enter(|| Step::name(variant));
        let inner = self.inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Inside::new(inner, self.trail))
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Hashes of the names of an object. Two names of one hash are as good as impossible.
#[derive(Default)]
struct Names {
    few: Vec<u64>,
    many: HashSet<u64>,
}

impl Names {
    const FEW: usize = 16;

    /// False for a name that is there already.
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

macro_rules! elements {
    ($($trait:ident::$method:ident;)*) => {$(
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
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
}

impl<C: SerializeTupleVariant, P: Trail> SerializeTupleVariant for Inside<C, P> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.step();
        let value = self.value(value);
        self.inner.serialize_field(&value)?;
        self.trail.leave();
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.trail.leave();
        self.inner.end()
    }
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

impl<C: SerializeStruct, P: Trail> SerializeStruct for Inside<C, P> {
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
        self.inner.end()
    }
}

impl<C: SerializeStructVariant, P: Trail> SerializeStructVariant for Inside<C, P> {
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
        self.trail.leave();
        self.inner.end()
    }
}
