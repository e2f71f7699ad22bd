//! Documents of kinds that the caller defines, for tasks.

use std::sync::Arc;

use prodigy_storage_backend::Revision;
use prodigy_storage_layout::DocumentKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::mirror::{method, mirror, rows};
use super::target::HasTarget;
use super::{Call, ItemStream};
use crate::documents::{DocumentInfo, DocumentOptions, Documents, Stored};

mirror! {
    /// [`Documents`] for asynchronous tasks.
    ///
    /// ```
    /// # use prodigy_storage::{AsyncStorage, DocumentOptions};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let plans = AsyncStorage::in_memory()?.repo("shop")?.documents("plans")?;
    /// plans.put("nightly", &["build", "test"], DocumentOptions::new()).await?;
    /// let found = plans.get::<Vec<String>>("nightly").await?.expect("it was put");
    /// assert_eq!(found.data.len(), 2);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncDocuments of Documents {
        fn kind(&self) -> &DocumentKind;
        async fn get<T: DeserializeOwned>(&self, name: impl AsRef<str>) -> Option<Stored<T>>;
        async fn get_raw(&self, name: impl AsRef<str>) -> Option<Stored<Box<RawValue>>>;
        async fn revision(&self, name: impl AsRef<str>) -> Option<Revision>;
        async fn delete(&self, name: impl AsRef<str>, options: DocumentOptions) -> bool;
        #[wrapped]
        fn list(&self) -> ItemStream<DocumentInfo>;
    }
}

impl AsyncDocuments {
    /// Like [`Documents::put`]. The value is serialised before this method returns.
    pub fn put<T: Serialize + ?Sized>(
        &self,
        name: impl AsRef<str>,
        value: &T,
        options: DocumentOptions,
    ) -> Call<Revision> {
        let name = name.as_ref().to_owned();
        let value = self.blocking.serialise(&name, value);
        let (blocking, threads) = (self.blocking.clone(), Arc::clone(&self.threads));
        Call::new(async move {
            let value = value?;
            threads
                .call(blocking.target(), "put", move || {
                    blocking.put(name, &*value, options)
                })
                .await
        })
    }
}
