//! Changefeeds and files: clauses that do not go together are refused where they are.

use super::*;

/// A statement, where it is refused, and why.
const CASES: &[(&str, &str, &str)] = &[
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT UPSERT ENCODE JSON TABLES (a.b (c INT))",
        "a.b",
        "no primary key to upsert by",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'json' HEADER TABLES (a.b (c INT))",
        "k",
        "neither delimiters nor a header",
    ),
    ("CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'csv' HEADER TABLES (a.b (c INT))", "k", "no first line"),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'json' COMPRESSION 'lz4' TABLES (a.b (c INT))",
        "k",
        "of TiCDC's values",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPICS ('b', 't')) FORMAT 'json' TABLES (a.b (c INT), a.c (c INT))",
        "k",
        "topic 't' has the name of no table",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPICS ('b', 'a.b')) FORMAT 'json' TABLES (a.b (c INT), b.b (c INT))",
        "k",
        "topic 'b' may be of a.b and of b.b",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 'a.b') FORMAT 'json' TABLES (a.b (c INT), a.c (c INT))",
        "a.c",
        "has no topic of its name",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPICS ('t', 'u'), START AT OFFSETS ('0:1')) FORMAT 'json' \
             TABLES (a.b (c INT))",
        "k",
        "'0:1' does not say which topic",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't', START AT OFFSETS ('u:0:1')) FORMAT 'json' \
             TABLES (a.b (c INT))",
        "k",
        "topic 'u', which is not read",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't', START AT OFFSETS ('0:1', 't:0:2')) FORMAT 'json' \
             TABLES (a.b (c INT))",
        "k",
        "partition 0 twice",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'json' RETAIN '7 days' TABLES (a.b (c INT PRIMARY KEY))",
        "'7 days'",
        "table a.b has a primary key, by which a row may be put again",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'json' RETAIN '1 hour' SCHEMAS FROM CONNECTION up \
             TABLES (a.b)",
        "'1 hour'",
        "tables of an upstream have keys",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'json' SNAPSHOT FROM CONNECTION up TABLES (a.b)",
        "up",
        "no timestamps that tell",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'csv' CLAIM CHECK FROM CONNECTION k TABLES (a.b (c INT))",
        "k TABLES",
        "'csv' has no claim checks",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'simple' CLAIM CHECK FROM CONNECTION k \
             TABLES (a.b (c INT PRIMARY KEY))",
        "k TABLES",
        "a KAFKA connection has no files",
    ),
    ("CREATE CONNECTION c TO FILES (PATH 'data', REGION 'r')", "REGION", "of an object store"),
    ("CREATE CONNECTION c TO FILES (PATH 'gcs://b/p')", "PATH", "files in `gcs://` cannot be read"),
    ("CREATE CONNECTION c TO FILES (PATH 's3://b?access-key=x')", "PATH", "options of their own"),
    ("CREATE CONNECTION c TO FILES (PATH 's3://b', ENDPOINT 'host:9000')", "ENDPOINT", "is a URL"),
    ("CREATE CONNECTION c TO FILES (PATH 's3://b', SECRET KEY SECRET s)", "SECRET KEY", "half of what it takes"),
    ("CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'avro' TABLES (a.b)", "k", "registry is not known"),
    (
        "CREATE SOURCE s FROM CONNECTION f (PATH 'in') FORMAT 'avro' (schema.registry = 'http://r') TABLES (a.b)",
        "f",
        "of Kafka's messages, not of files",
    ),
    (
        "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'avro' (schema.registry = 'http://r') TABLES (a.*)",
        "k",
        "columns of the followed tables are not known",
    ),
];

#[test]
fn feeds_and_files_are_refused_where_they_are() {
    let mut catalog = Catalog::default();
    for text in [
        "CREATE CONNECTION k TO KAFKA (BROKERS 'k:9092')",
        "CREATE CONNECTION f TO FILES (PATH 'f')",
        "CREATE CONNECTION up TO TIDB (HOST 'h', USER 'u')",
    ] {
        let (statement, _) = parse(text).unwrap().remove(0);
        let id = catalog.allocate();
        catalog.add(defined(&catalog, id, &statement, planned(vec![], "UTC"))).unwrap();
    }
    let id = catalog.allocate();
    for (text, at, message) in CASES {
        let (statement, _) = parse(text).unwrap().remove(0);
        let error = try_defined(&catalog, id, &statement, planned(vec![], "UTC")).expect_err(text);
        assert!(error.message.contains(message), "{error:?}");
        assert!(text[error.position.unwrap()..].starts_with(at), "{error:?}");
        assert!(error.hint.is_some(), "{error:?}");
    }
}

#[test]
fn a_registry_is_printed_where_it_was_named() {
    let mut catalog = Catalog::default();
    let script = "CREATE SECRET p FROM ENV 'P';
        CREATE CONNECTION r TO KAFKA (BROKERS 'a:9092', SCHEMA REGISTRY 'https://r:8081', REGISTRY USER 'u',
          REGISTRY PASSWORD SECRET p);
        CREATE SOURCE v FROM CONNECTION r (TOPIC 'v') FORMAT UPSERT ENCODE AVRO
          (schema.registry = 'http://s', schema.registry.username = 'w', schema.registry.password = SECRET p)
          TABLES (a.v);
        CREATE SOURCE w FROM CONNECTION r (TOPIC 'w') FORMAT DEBEZIUM ENCODE AVRO TABLES (a.w)";
    let mut printed = vec![];
    for (statement, _) in parse(script).unwrap() {
        let id = catalog.allocate();
        catalog.add(defined(&catalog, id, &statement, planned(vec![], "UTC"))).unwrap();
        printed.push(create(&catalog, catalog.get(id).unwrap()));
    }
    assert_eq!(
        printed[1..].join(";\n"),
        "CREATE CONNECTION r TO KAFKA (BROKERS 'a:9092', SCHEMA REGISTRY 'https://r:8081', REGISTRY USER 'u', \
REGISTRY PASSWORD SECRET p);
CREATE SOURCE v FROM CONNECTION r (TOPIC 'v')
  FORMAT 'avro' (schema.registry = 'http://s', schema.registry.username = 'w', schema.registry.password = SECRET p)
  TABLES (a.v);
CREATE SOURCE w FROM CONNECTION r (TOPIC 'w')
  FORMAT 'debezium-avro'
  TABLES (a.w)"
    );
}
