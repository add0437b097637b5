//! TLS to MySQL as source and target: the certificate is trusted as SSL MODE and SSL CA say.

use std::path::Path;

use tokio_postgres::Client;

use crate::certificates::Certificates;
use crate::mysql::{Kind, Server, not_run};
use crate::tidemill::{Tidemill, eventually, sql, temporary, try_sql};

const USER: &str = "CREATE USER guarded IDENTIFIED BY '' REQUIRE SSL; GRANT ALL ON *.* TO guarded";

async fn refusal(client: &Client, text: &str) -> String {
    let error = try_sql(client, text).await.expect_err("it is refused");
    let error = error.as_db_error().expect("the server refuses it");
    format!("{}; {}", error.message(), error.hint().unwrap_or_default())
}

fn connection(name: &str, server: &Server, tls: &str) -> String {
    let port = server.port();
    format!("CREATE CONNECTION {name} TO MYSQL (HOST '127.0.0.1', PORT {port}, USER 'guarded'{tls})")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_own_certificates() {
    let directory = temporary("tls");
    let certificates = match Certificates::make(&directory.join("own")) {
        Ok(certificates) => certificates,
        Err(reason) => return not_run(&format!("a test of TLS: {reason}")),
    };
    let other = Certificates::make(&directory.join("other")).expect("the first ones could be made");
    let options = [
        format!("--ssl-ca={}", certificates.ca.display()),
        format!("--ssl-cert={}", certificates.certificate.display()),
        format!("--ssl-key={}", certificates.key.display()),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let Some(source) = Server::start_or_skip(Kind::MySql, &options).await else { return };
    let Some(target) = Server::start_or_skip(Kind::MySql, &options).await else { return };
    source.run(&format!("{USER}; CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v INT)")).await;
    source.run("INSERT INTO shop.t VALUES (1, 10)").await;
    target.run(&format!("{USER}; CREATE DATABASE mart")).await;
    let server = Tidemill::start(&directory.join("data"), &[], &[]).await;
    let client = server.client().await;
    let trust = |ca: &Path| format!(", SSL CA '{}'", ca.display());

    for (name, tls, reason) in [
        ("plain", String::new(), "Access denied"),
        ("unknown", ", SSL MODE 'verify_ca'".to_string(), "invalid peer certificate"),
        ("other", trust(&other.ca), "invalid peer certificate"),
        ("missing", ", SSL CA '/nowhere/ca.pem'".to_string(), "file /nowhere/ca.pem: No such file"),
    ] {
        sql(&client, &connection(name, &source, &tls)).await;
        let said = refusal(&client, &format!("SHOW TABLES FROM CONNECTION {name}")).await;
        assert!(said.contains(reason), "{name}: {said}");
    }
    let unchecked = connection("c", &source, &format!(", SSL MODE 'required'{}", trust(&other.ca)));
    assert!(refusal(&client, &unchecked).await.contains("say SSL MODE 'verify_ca'"));

    sql(&client, &connection("required", &source, ", SSL MODE 'required'")).await;
    sql(&client, "SHOW TABLES FROM CONNECTION required").await;
    sql(&client, &connection("shop", &source, &format!(", SSL MODE 'verify_ca'{}", trust(&certificates.ca)))).await;
    sql(&client, &connection("dw", &target, &trust(&certificates.ca))).await;
    let shown = sql(&client, "SHOW CREATE CONNECTION shop").await;
    assert!(shown[0].iter().flatten().any(|text| text.contains(&trust(&certificates.ca))), "{shown:?}");
    sql(&client, "CREATE SOURCE shop FROM CONNECTION shop TABLES (shop.*)").await;
    sql(&client, "CREATE MATERIALIZED VIEW w INTO dw.mart.w WITH (wait) AS SELECT id, v FROM shop.t").await;
    source.run("UPDATE shop.t SET v = 11; INSERT INTO shop.t VALUES (2, 20)").await;
    eventually("the changes come over TLS", 30, async || {
        let found = target.rows("SELECT id, v FROM mart.w ORDER BY id").await;
        let expected = [[Some("1".to_string()), Some("11".into())], [Some("2".into()), Some("20".into())]];
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}
