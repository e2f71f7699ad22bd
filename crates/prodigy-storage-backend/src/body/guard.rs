//! Checks that the calls by which `serde_json` writes a value make one valid JSON value.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::error::BodyError;
use super::number::out_of_range;
use super::text;

/// How raw JSON inside a value is checked; `serde_json` writes it unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// Raw JSON is checked completely.
    Checked,
    /// Raw JSON is trusted to be JSON, as its type promises. Only nesting and Unicode are checked, and line breaks
    /// between its tokens become spaces.
    OnOneLine,
}

/// The result of writing a value.
#[derive(Debug, Default)]
pub(crate) enum Outcome {
    /// No whole value was written, or more than one.
    #[default]
    Open,
    /// One value was written.
    Whole,
    /// The first fault that was found.
    Fault(BodyError),
}

impl Outcome {
    /// `Ok` if the written text is a body; otherwise the reason why it is not.
    pub(crate) fn of<T: Serialize + ?Sized>(
        self,
        value: &T,
        written: Result<(), serde_json::Error>,
    ) -> Result<(), BodyError> {
        match (self, written) {
            (Self::Fault(fault), _) => Err(fault),
            (_, Err(error)) => Err(BodyError::of_value(value, error)),
            (Self::Whole, Ok(())) => Ok(()),
            (Self::Open, Ok(())) => Err(broken()),
        }
    }
}

/// The text that the formatter expects next at the present nesting level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A value, or the string of a key.
    Value,
    /// Nothing more in this value or key: only the end of the array or object around it.
    Done,
    /// In an array: a value or the end of the array.
    Array,
    /// In an object: a key or the end of the object.
    Object,
    /// In an object, after a key: the value of the key.
    BehindKey,
}

/// A formatter that writes like [`CompactFormatter`]. When it is dropped, it records whether the text was one JSON
/// value of bounded nesting.
///
/// # The checks
///
/// On the way to an `Ok`, `serde_json` escapes strings, writes numbers correctly, and closes what it opened. But an
/// implementation of `Serialize` may still make it write invalid JSON: it may continue with the next value after an
/// error, give a key no value, add values to an array that it declared as empty, or pass raw text that is not exactly
/// one JSON value. In each of these cases a call comes at the wrong [`Place`], or a level stays open, so that the depth
/// does not return to zero.
///
/// A call at the wrong place only sets a flag, which is checked at the end. This saves a branch in each call.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    place: Place,
    out_of_place: bool,
    depth: usize,
    deepest: usize,
    raw: Raw,
    outcome: &'a mut Outcome,
}

impl<'a> Guard<'a> {
    /// A guard for a value that may be nested `deepest` levels deep.
    pub(crate) fn new(deepest: usize, raw: Raw, outcome: &'a mut Outcome) -> Self {
        Self {
            place: Place::Value,
            out_of_place: false,
            depth: 0,
            deepest,
            raw,
            outcome,
        }
    }

    /// Moves from the expected place to the next, and sets a flag if the present place is another one.
    #[inline]
    fn step(&mut self, from: Place, to: Place) {
        self.out_of_place |= self.place != from;
        self.place = to;
    }

    #[inline]
    fn open(&mut self, inside: Place) -> io::Result<()> {
        self.step(Place::Value, inside);
        // Closing a level twice is an error that may bring the depth below zero, hence the wrapping arithmetic.
        self.depth = self.depth.wrapping_add(1);
        if self.depth > self.deepest {
            return self.too_deep();
        }
        Ok(())
    }

    #[inline]
    fn close(&mut self, inside: Place) {
        self.step(inside, Place::Done);
        self.depth = self.depth.wrapping_sub(1);
    }

    // A separate function, so that the common path of its caller stays short.
    #[cold]
    fn too_deep(&mut self) -> io::Result<()> {
        self.refuse(text::too_deep(self.deepest))
    }

    #[cold]
    fn refuse(&mut self, fault: BodyError) -> io::Result<()> {
        if !matches!(self.outcome, Outcome::Fault(_)) {
            *self.outcome = Outcome::Fault(fault);
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Checks raw text that is written as a value.
    fn check_raw(&mut self, raw: &str) -> io::Result<()> {
        self.step(Place::Value, Place::Done);
        if self.raw == Raw::Checked
            && let Err(error) = text::is_json(raw)
        {
            return self.refuse(BodyError::new("its raw JSON is not valid", None).with_source(error));
        }
        if let Err(fault) = text::check(raw.as_bytes(), self.depth, self.deepest) {
            return self.refuse(fault.moved(None));
        }
        match out_of_range(raw) {
            Some(path) => self.refuse(text::out_of_range(&path)),
            None => Ok(()),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let whole = self.depth == 0 && self.place == Place::Done && !self.out_of_place;
        if whole && matches!(self.outcome, Outcome::Open) {
            *self.outcome = Outcome::Whole;
        }
    }
}

fn broken() -> BodyError {
    BodyError::new(
        "its `Serialize` writes invalid JSON: it continues after an error, or breaks the order of its calls",
        None,
    )
}

/// Declares the methods that write a scalar: each counts as a whole value.
macro_rules! scalars {
    ($($method:ident($($value:ident: $type:ty)?);)*) => {$(
        #[inline]
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $value: $type)?) -> io::Result<()> {
            self.place = Place::Done;
            CompactFormatter.$method(writer $(, $value)?)
        }
    )*};
}

// Only these methods change the place. All other methods of the trait call these, or write the inside of strings.
impl Formatter for Guard<'_> {
    scalars! {
        write_null();
        write_bool(value: bool);
        write_i8(value: i8);
        write_i16(value: i16);
        write_i32(value: i32);
        write_i64(value: i64);
        write_i128(value: i128);
        write_u8(value: u8);
        write_u16(value: u16);
        write_u32(value: u32);
        write_u64(value: u64);
        write_u128(value: u128);
        write_f32(value: f32);
        write_f64(value: f64);
        end_string();
    }

    /// Writes a number of any precision: it is raw text, like raw JSON.
    fn write_number_str<W: ?Sized + Write>(&mut self, writer: &mut W, value: &str) -> io::Result<()> {
        self.write_raw_fragment(writer, value)
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        self.check_raw(fragment)?;
        let mut rest = fragment.as_bytes();
        if self.raw == Raw::OnOneLine {
            // JSON strings contain no raw control characters, so a line break here is between tokens.
            while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
                writer.write_all(rest.get(..at).unwrap_or_default())?;
                writer.write_all(b" ")?;
                rest = rest.get(at + 1..).unwrap_or_default();
            }
        }
        writer.write_all(rest)
    }

    #[inline]
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(Place::Array)?;
        CompactFormatter.begin_array(writer)
    }

    #[inline]
    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(Place::Array);
        CompactFormatter.end_array(writer)
    }

    #[inline]
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.step(Place::Array, Place::Value);
        CompactFormatter.begin_array_value(writer, first)
    }

    #[inline]
    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.step(Place::Done, Place::Array);
        CompactFormatter.end_array_value(writer)
    }

    #[inline]
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(Place::Object)?;
        CompactFormatter.begin_object(writer)
    }

    #[inline]
    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(Place::Object);
        CompactFormatter.end_object(writer)
    }

    #[inline]
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.step(Place::Object, Place::Value);
        CompactFormatter.begin_object_key(writer, first)
    }

    #[inline]
    fn end_object_key<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.step(Place::Done, Place::BehindKey);
        CompactFormatter.end_object_key(writer)
    }

    #[inline]
    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.step(Place::BehindKey, Place::Value);
        CompactFormatter.begin_object_value(writer)
    }

    #[inline]
    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.step(Place::Done, Place::Object);
        CompactFormatter.end_object_value(writer)
    }
}
