//! The options of a FILES connection: whether they go together.

use super::find;
use crate::catalog::Catalog;
use crate::catalog::object::{ConnectionOptions, ObjectKind, StoreKeys};
use crate::plan::statement::{ConnectionOption, OptionValue};
use crate::plan::{PlanError, PlanErrorKind};
use crate::row::ObjectId;
use crate::sources::log::files::root::Root;

/// Those of an object store are said of one only, its keys together.
pub(super) fn options(
    catalog: &Catalog,
    at: usize,
    given: &[ConnectionOption],
    options: &mut ConnectionOptions,
) -> Result<(), PlanError> {
    let named = |name: &str| given.iter().find(|option| option.name == name);
    let wrong = |message: String, hint: &str, at: usize| {
        let (kind, hint) = (PlanErrorKind::InvalidValue, Some(hint.to_string()));
        Err(PlanError { kind, message, hint, position: Some(at) })
    };
    let path = options.path.clone().unwrap_or_default();
    let path_at = named("PATH").map_or(at, |option| option.at);
    let root = match Root::parse(&path) {
        Ok(root) => root,
        Err(reason) => return wrong(reason, "PATH '/folder', or PATH 's3://bucket/prefix'", path_at),
    };
    let of_stores = ["ENDPOINT", "REGION", "ACCESS KEY", "SECRET KEY"];
    if let (Root::Folder(_), Some(option)) = (root, of_stores.iter().find_map(|name| named(name))) {
        let message = format!("{} is of an object store, and the path is a folder of this machine", option.name);
        return wrong(message, "PATH 's3://bucket/prefix' is in an object store", option.at);
    }
    let text = |name: &str| match named(name).map(|option| &option.value) {
        Some(OptionValue::Text(text)) => Some(text.clone()),
        _ => None,
    };
    (options.endpoint, options.region) = (text("ENDPOINT"), text("REGION"));
    if let Some(option) = named("ENDPOINT")
        && options.endpoint.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
    {
        return wrong("an endpoint is a URL".to_string(), "ENDPOINT 'https://host:port'", option.at);
    }
    options.keys = match (named("ACCESS KEY"), named("SECRET KEY")) {
        (None, None) => None,
        (Some(access), Some(secret)) => {
            Some(StoreKeys { access: secret_of(catalog, access)?, secret: secret_of(catalog, secret)? })
        }
        (Some(one), None) | (None, Some(one)) => {
            let hint = "say ACCESS KEY SECRET … and SECRET KEY SECRET …; without both the server's environment tells \
                        (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)";
            return wrong(format!("{} alone is half of what it takes", one.name), hint, one.at);
        }
    };
    Ok(())
}

fn secret_of(catalog: &Catalog, option: &ConnectionOption) -> Result<ObjectId, PlanError> {
    match &option.value {
        OptionValue::Secret(name) => Ok(find(catalog, ObjectKind::Secret, name)?.id()),
        other => panic!("the parser let option {} through with {other:?}", option.name),
    }
}
