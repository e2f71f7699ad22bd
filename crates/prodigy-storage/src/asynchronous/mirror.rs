//! The rows of a handle for tasks.
//!
//! A row is the signature of a method of the blocking interface. The macro makes the method of the same name that calls it:
//!
//! - `fn`: at once, in the task;
//! - `async fn`: on a thread of the handle. The future owns copies of the arguments;
//! - `#[wrapped]`: the result becomes its counterpart for tasks ([`Wrap`](super::Wrap)).
//!
//! A test compares the rows and the methods written by hand with the public interface: `tests/it/asynchronous/surface.rs`.

/// A handle for tasks around a blocking one.
macro_rules! mirror {
    ($(#[$doc:meta])* $Async:ident of $Sync:ident { $($rows:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $Async {
            pub(super) blocking: $Sync,
            pub(super) threads: std::sync::Arc<crate::asynchronous::threads::Threads>,
        }

        impl crate::asynchronous::Wrap for $Sync {
            type Wrapped = $Async;

            fn wrap(self, threads: &std::sync::Arc<crate::asynchronous::threads::Threads>) -> $Async {
                $Async { blocking: self, threads: std::sync::Arc::clone(threads) }
            }
        }

        impl $Async {
            rows! { $Sync; $($rows)* }
        }
    };
    // A handle that is not cloned: its calls share the blocking one.
    ($(#[$attribute:meta])* $Async:ident of $Sync:ident as $Shared:ty { $($rows:tt)* }) => {
        $(#[$attribute])*
        #[derive(Debug)]
        pub struct $Async {
            blocking: $Shared,
            threads: std::sync::Arc<crate::asynchronous::threads::Threads>,
        }

        impl $Async {
            rows! { $Sync; $($rows)* }
        }
    };
}

/// The methods of the rows.
macro_rules! rows {
    ($S:ident;) => {};
    ($S:ident; #[wrapped] async fn $name:ident $(<$g:ident: $bound:path>)? (&self $(, $($arg:tt)*)?) -> $ret:ty; $($rest:tt)*) => {
        method! { call_wrapped $S $name [$($g: $bound)?] [$ret] [] [] []; $($($arg)*)? }
        rows! { $S; $($rest)* }
    };
    ($S:ident; async fn $name:ident $(<$g:ident: $bound:path>)? (&self $(, $($arg:tt)*)?) -> $ret:ty; $($rest:tt)*) => {
        method! { call $S $name [$($g: $bound)?] [$ret] [] [] []; $($($arg)*)? }
        rows! { $S; $($rest)* }
    };
    ($S:ident; #[wrapped] fn $name:ident $(<$g:ident: $bound:path>)? (&self $(, $($arg:tt)*)?) -> $ret:ty; $($rest:tt)*) => {
        method! { now_wrapped $S $name [$($g: $bound)?] [$ret] [] [] []; $($($arg)*)? }
        rows! { $S; $($rest)* }
    };
    ($S:ident; fn $name:ident $(<$g:ident: $bound:path>)? (&self $(, $($arg:tt)*)?) -> $ret:ty; $($rest:tt)*) => {
        method! { now $S $name [$($g: $bound)?] [$ret] [] [] []; $($($arg)*)? }
        rows! { $S; $($rest)* }
    };
}

/// One method. Takes the arguments one by one into: parameters, statements that make owned copies, expressions that hand these on.
macro_rules! method {
    ($kind:ident $S:ident $name:ident $g:tt $ret:tt [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];
        $arg:ident: &$type:ty $(, $($rest:tt)*)?) => {
        method! { $kind $S $name $g $ret [$($param)* $arg: &$type,] [$($own)* let $arg = $arg.to_owned();] [$($pass)* &$arg,];
            $($($rest)*)? }
    };
    ($kind:ident $S:ident $name:ident $g:tt $ret:tt [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];
        $arg:ident: impl AsRef<$type:ty> $(, $($rest:tt)*)?) => {
        method! { $kind $S $name $g $ret [$($param)* $arg: impl AsRef<$type>,] [$($own)* let $arg = $arg.as_ref().to_owned();]
            [$($pass)* $arg,]; $($($rest)*)? }
    };
    ($kind:ident $S:ident $name:ident $g:tt $ret:tt [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];
        $arg:ident: Option<&str> $(, $($rest:tt)*)?) => {
        method! { $kind $S $name $g $ret [$($param)* $arg: Option<&str>,] [$($own)* let $arg = $arg.map(str::to_owned);]
            [$($pass)* $arg.as_deref(),]; $($($rest)*)? }
    };
    ($kind:ident $S:ident $name:ident $g:tt $ret:tt [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];
        $arg:ident: impl IntoIterator<Item: Into<$type:ty>> $(, $($rest:tt)*)?) => {
        method! { $kind $S $name $g $ret [$($param)* $arg: impl IntoIterator<Item: Into<$type>>,]
            [$($own)* let $arg: Vec<$type> = $arg.into_iter().map(Into::into).collect();] [$($pass)* $arg,]; $($($rest)*)? }
    };
    ($kind:ident $S:ident $name:ident $g:tt $ret:tt [$($param:tt)*] $own:tt [$($pass:tt)*];
        $arg:ident: $type:ty $(, $($rest:tt)*)?) => {
        method! { $kind $S $name $g $ret [$($param)* $arg: $type,] $own [$($pass)* $arg,]; $($($rest)*)? }
    };

    (now $S:ident $name:ident [$($g:ident: $bound:path)?] [$ret:ty] [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];) => {
        #[doc = concat!("As [`", stringify!($S), "::", stringify!($name), "`](crate::", stringify!($S), "::", stringify!($name), ").")]
        pub fn $name $(<$g: $bound + Send + 'static>)? (&self, $($param)*) -> $ret {
            $($own)*
            self.blocking.$name($($pass)*)
        }
    };
    (now_wrapped $S:ident $name:ident [$($g:ident: $bound:path)?] [$ret:ty] [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];) => {
        #[doc = concat!("As [`", stringify!($S), "::", stringify!($name), "`](crate::", stringify!($S), "::", stringify!($name), "), for tasks.")]
        pub fn $name $(<$g: $bound + Send + 'static>)? (&self, $($param)*) -> $ret {
            $($own)*
            crate::asynchronous::Wrap::wrap(self.blocking.$name($($pass)*), &self.threads)
        }
    };
    (call $S:ident $name:ident [$($g:ident: $bound:path)?] [$ret:ty] [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];) => {
        #[doc = concat!("As [`", stringify!($S), "::", stringify!($name), "`](crate::", stringify!($S), "::", stringify!($name), "), on a thread of the handle.")]
        pub fn $name $(<$g: $bound + Send + 'static>)? (&self, $($param)*) -> crate::asynchronous::Call<$ret> {
            $($own)*
            let (blocking, threads) = (self.blocking.clone(), std::sync::Arc::clone(&self.threads));
            crate::asynchronous::Call::new(async move {
                threads.call(stringify!($name), move || blocking.$name($($pass)*)).await
            })
        }
    };
    (call_wrapped $S:ident $name:ident [$($g:ident: $bound:path)?] [$ret:ty] [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];) => {
        #[doc = concat!("As [`", stringify!($S), "::", stringify!($name), "`](crate::", stringify!($S), "::", stringify!($name), "), on a thread of the handle and for tasks.")]
        pub fn $name $(<$g: $bound + Send + 'static>)? (&self, $($param)*) -> crate::asynchronous::Call<$ret> {
            $($own)*
            let (blocking, threads) = (self.blocking.clone(), std::sync::Arc::clone(&self.threads));
            crate::asynchronous::Call::new(async move {
                let result = threads.call(stringify!($name), move || blocking.$name($($pass)*)).await?;
                Ok(crate::asynchronous::Wrap::wrap(result, &threads))
            })
        }
    };
}

pub(super) use mirror;
pub(super) use {method, rows};
