//! A certificate authority and a certificate of 127.0.0.1, made by the `openssl` command.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Certificates {
    /// What clients trust.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// `Err`: why there are none; the command may not be installed.
    pub fn make(directory: &Path) -> Result<Certificates, String> {
        std::fs::create_dir_all(directory).map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
        std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").map_err(|e| e.to_string())?;
        let openssl = |arguments: &str| {
            let done = Command::new("openssl").current_dir(directory).args(arguments.split(' ')).output();
            let done = done.map_err(|e| format!("cannot run openssl: {e}"))?;
            match done.status.success() {
                true => Ok(()),
                false => Err(format!("openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr))),
            }
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem")?;
        openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr")?;
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        )?;
        let path = |name: &str| directory.join(name);
        Ok(Certificates { ca: path("ca.pem"), certificate: path("server.pem"), key: path("server.key") })
    }
}
