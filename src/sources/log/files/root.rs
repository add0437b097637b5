//! Where files are, as PATH of a connection says it: a folder, or `s3://bucket/prefix`.

use std::path::PathBuf;

use super::storage::below;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    Folder(PathBuf),
    /// Of a store that speaks S3; the prefix has no slash at its ends.
    Bucket {
        bucket: String,
        prefix: String,
    },
}

impl Root {
    /// What is no URL is a folder's path.
    pub fn parse(path: &str) -> Result<Root, String> {
        let Some((scheme, rest)) = path.split_once("://") else { return Ok(Root::Folder(PathBuf::from(path))) };
        match scheme {
            "file" => Ok(Root::Folder(PathBuf::from(rest))),
            "s3" if rest.contains(['?', '#', '@']) => {
                Err("an s3:// path is a bucket and a prefix: what else there is to say are options of their own".into())
            }
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/');
                if bucket.is_empty() {
                    return Err("the path names no bucket: s3://bucket/prefix".to_string());
                }
                is_plain(prefix)?;
                Ok(Root::Bucket { bucket: bucket.to_string(), prefix: prefix.to_string() })
            }
            other => Err(format!("files in `{other}://` cannot be read; a folder's path, file:// and s3:// can")),
        }
    }

    /// What lies under it; `.` is the root itself.
    pub fn join(self, path: &str) -> Result<Root, String> {
        match self {
            Root::Folder(folder) => Ok(Root::Folder(folder.join(path))),
            Root::Bucket { bucket, prefix } => {
                let path = path.trim_matches('/').trim_start_matches("./");
                let path = if path == "." { "" } else { path };
                is_plain(path)?;
                let prefix = if path.is_empty() { prefix } else { below(&prefix, path) };
                Ok(Root::Bucket { bucket, prefix })
            }
        }
    }
}

/// Names of objects have no way up or around.
fn is_plain(path: &str) -> Result<(), String> {
    match path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        true => Ok(()),
        false => Err(format!("`{path}` is no prefix of objects' names: write it without `.`, `..` and `//`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_or_a_bucket_with_a_prefix() {
        let bucket =
            |bucket: &str, prefix: &str| Ok(Root::Bucket { bucket: bucket.to_string(), prefix: prefix.to_string() });
        assert_eq!(Root::parse("data/cdc"), Ok(Root::Folder("data/cdc".into())));
        assert_eq!(Root::parse("file:///data"), Ok(Root::Folder("/data".into())));
        assert_eq!(Root::parse("s3://b"), bucket("b", ""));
        assert_eq!(Root::parse("s3://b/"), bucket("b", ""));
        assert_eq!(Root::parse("s3://b/x/y/"), bucket("b", "x/y"));
        for bad in ["s3://", "s3:///x", "s3://b/a/../c", "s3://b/a//c", "s3://b?access-key=k", "gcs://b/x"] {
            assert!(Root::parse(bad).is_err(), "{bad}");
        }
        let join = |path: &str| Root::parse("s3://b/x").unwrap().join(path);
        assert_eq!((join("."), join("y/z")), (bucket("b", "x"), bucket("b", "x/y/z")));
        assert_eq!(join("./y"), bucket("b", "x/y"));
        assert!(join("../y").is_err() && join("y/../../z").is_err());
    }
}
