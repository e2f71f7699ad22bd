//! Macros that declare a type for tasks from the signatures of a blocking type.
//!
//! A row of the macro `mirror!` is the signature of a method of the blocking type. The macro makes a method of the same
//! name that calls it:
//!
//! - `fn`: directly, before the method returns;
//! - `async fn`: on a thread of the handle. The future owns copies of the arguments;
//! - `#[wrapped]`: the result is converted to its type for tasks ([`Wrap`](super::Wrap)).
//!
//! The test `tests/it/asynchronous/surface.rs` checks that the rows and the hand-written methods cover the public
//! blocking interface.

/// Declares a type for tasks that holds a blocking one and can be cloned.
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
    // Without `Clone`: the type holds the blocking one in `$Shared`, which its calls share.
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

/// Declares a method for each row.
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

/// Declares one method. It moves the arguments one by one into three lists: the parameters, the statements that
/// make owned copies, and the expressions that pass these on.
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
                let target = crate::asynchronous::target::HasTarget::target(&blocking);
                threads.call(target, stringify!($name), move || blocking.$name($($pass)*)).await
            })
        }
    };
    (call_wrapped $S:ident $name:ident [$($g:ident: $bound:path)?] [$ret:ty] [$($param:tt)*] [$($own:tt)*] [$($pass:tt)*];) => {
        #[doc = concat!("As [`", stringify!($S), "::", stringify!($name), "`](crate::", stringify!($S), "::", stringify!($name), "), on a thread of the handle and for tasks.")]
        pub fn $name $(<$g: $bound + Send + 'static>)? (&self, $($param)*) -> crate::asynchronous::Call<$ret> {
            $($own)*
            let (blocking, threads) = (self.blocking.clone(), std::sync::Arc::clone(&self.threads));
            crate::asynchronous::Call::new(async move {
                let target = crate::asynchronous::target::HasTarget::target(&blocking);
                let result = threads.call(target, stringify!($name), move || blocking.$name($($pass)*)).await?;
                Ok(crate::asynchronous::Wrap::wrap(result, &threads))
            })
        }
    };
}

pub(super) use mirror;
pub(super) use {method, rows};
