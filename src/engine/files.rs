//! From a FILES connection of the catalog to what its files lie in.

use std::sync::Arc;

use crate::catalog::object::Connection;
use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::sources::Check;
use crate::sources::log::Fault;
use crate::sources::log::files::disk::Disk;
#[cfg(feature = "objects")]
use crate::sources::log::files::objects::{Keys, Objects, Options};
use crate::sources::log::files::root::Root;
use crate::sources::log::files::storage::Storage;

impl Core {
    /// What lies under a path of the connection; `.` is all of it.
    pub fn storage(&self, connection: &Connection, path: &str) -> Result<Arc<dyn Storage>, EngineError> {
        let given = connection.options.path.as_deref().expect("checked at CREATE CONNECTION");
        let invalid = |reason: String| EngineError::new(ErrorKind::InvalidValue, reason);
        match Root::parse(given).and_then(|root| root.join(path)).map_err(invalid)? {
            Root::Folder(folder) => Ok(Arc::new(Disk::new(folder))),
            Root::Bucket { bucket, prefix } => self.objects(connection, bucket, prefix),
        }
    }

    #[cfg(feature = "objects")]
    fn objects(
        &self,
        connection: &Connection,
        bucket: String,
        prefix: String,
    ) -> Result<Arc<dyn Storage>, EngineError> {
        let given = &connection.options;
        let keys = match given.keys {
            Some(keys) => Some(Keys { access: self.secret(keys.access)?, secret: self.secret(keys.secret)? }),
            None => None,
        };
        let (endpoint, region) = (given.endpoint.clone(), given.region.clone());
        let options = Options { bucket, prefix, endpoint, region, keys };
        match Objects::new(&options) {
            Ok(objects) => Ok(Arc::new(objects)),
            Err(reason) => {
                let message = format!("connection {}: {reason}", connection.name);
                Err(EngineError::new(ErrorKind::InvalidValue, message))
            }
        }
    }

    #[cfg(not(feature = "objects"))]
    fn objects(&self, _: &Connection, _: String, _: String) -> Result<Arc<dyn Storage>, EngineError> {
        let error = EngineError::new(ErrorKind::NotSupported, "this binary was built without object stores");
        Err(error.hint("build it with the feature `objects`, which is on by default"))
    }

    /// Whether what is there can be listed.
    pub async fn files_checks(&self, connection: &Connection) -> Result<Vec<Check>, EngineError> {
        let storage = self.storage(connection, ".")?;
        let name = storage.name();
        let looked = tokio::task::spawn_blocking(move || storage.look()).await.expect("looking does not panic");
        let (have, ok) = match looked {
            Ok(()) => ("it can".to_string(), true),
            Err(Fault::Lost { reason, .. }) => (reason, false),
            Err(Fault::Stop(stop)) => (stop.message, false),
        };
        let remedy = (!ok).then(|| "see the reason; the server itself must reach and may read it".to_string());
        Ok(vec![Check { setting: name, have, need: "it can be listed".to_string(), ok, remedy }])
    }
}
