//! SHOW CREATE makes the same object again, for given and for random objects.

mod feeds;

use super::*;
use crate::catalog::object::{ConnectionKind, ConnectionOptions, ObjectKind, ViewOptions, WideTable};
use crate::config::SslMode;
use crate::plan::define::{self, Planned};
use crate::plan::parse::parse;
use crate::plan::relations::CatalogRelations;
use crate::plan::statement::Statement;
use crate::plan::{Relation, Relations};
use crate::row::types::SqlType;

#[test]
fn what_is_printed_runs_and_makes_the_same_object() {
    const SEEDS: u64 = 300;
    for seed in 0..SEEDS {
        let catalog = random_catalog(seed);
        for object in catalog.objects() {
            let text = create(&catalog, object);
            let again = remade(&catalog, object, &text);
            if let Some(again) = again {
                assert_eq!(&again, &**object, "seed {seed}\n{text}");
            }
        }
    }
}

#[test]
fn printed_objects_read_well() {
    let mut catalog = Catalog::default();
    let script = "CREATE SECRET p FROM ENV 'P'; CREATE SECRET q AS 'hunter2';
        CREATE CONNECTION shop TO MYSQL (HOST 'db', PORT 3306, USER 'repl', PASSWORD SECRET p, SSL MODE 'verify_ca');
        CREATE CONNECTION dw TO TIDB (HOST 'tidb', USER 'dw');
        CREATE SOURCE shop FROM CONNECTION shop TABLES (shop.*, pay.orders) EXCLUDE COLUMNS (shop.users.avatar);
        CREATE TABLE `order` (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(20) COLLATE utf8mb4_bin COMMENT 'it''s');
        CREATE MATERIALIZED VIEW wide (PRIMARY KEY (id)) COMMENT 'one' INTO dw.mart.wide EXISTING ROWS RECONCILE
          WITH (time_zone = 'Asia/Shanghai') AS SELECT id FROM `order`;
        CREATE VIEW simple AS SELECT 1 AS id;
        CREATE CONNECTION k TO KAFKA (BROKERS 'a:9092,b:9092', SASL MECHANISM 'plain', USER 'u', PASSWORD SECRET p);
        CREATE SOURCE flow FROM CONNECTION k (TOPIC 'flow', START AT TIMESTAMP '2026-01-02 03:04:05')
          FORMAT 'canal-json' COMPRESSION 'LZ4' TIME ZONE '+08:00' SCHEMAS FROM CONNECTION dw TABLES (shop.orders);
        CREATE SOURCE d FROM CONNECTION k (TOPICS 'dbz.*', TRANSACTIONS TOPIC 'dbz.t') FORMAT DEBEZIUM ENCODE JSON
          TABLES (a.b (id INT PRIMARY KEY, v VARCHAR(3)));
        CREATE SOURCE e FROM CONNECTION k (TOPIC 'e', START AT OFFSETS ('0:5', 'e:1:7') OTHERS EARLIEST)
          FORMAT PLAIN ENCODE CSV DELIMITER '\\t' TABLES (a.e (v INT));
        CREATE CONNECTION s3 TO FILES (PATH 's3://b/p', ENDPOINT 'http://s:9', REGION 'r', ACCESS KEY SECRET p,
          SECRET KEY SECRET q)";
    let mut printed = vec![];
    for (statement, _) in parse(script).unwrap() {
        let id = catalog.allocate();
        let planned = planned(vec![], "UTC");
        catalog.add(defined(&catalog, id, &statement, planned)).unwrap();
        printed.push(create(&catalog, catalog.get(id).unwrap()));
    }
    assert_eq!(
        printed.join(";\n"),
        "CREATE SECRET p FROM ENV 'P';
-- the value is not shown; give it again in its place:
-- CREATE SECRET q AS '…';
CREATE CONNECTION shop TO MYSQL (HOST 'db', PORT 3306, USER 'repl', PASSWORD SECRET p, SSL MODE 'verify_ca');
CREATE CONNECTION dw TO TIDB (HOST 'tidb', USER 'dw');
CREATE SOURCE shop FROM CONNECTION shop
  TABLES (shop.*, pay.orders)
  EXCLUDE COLUMNS (shop.users.avatar);
CREATE TABLE `order` (
  id BIGINT UNSIGNED NOT NULL,
  name VARCHAR(20) COLLATE utf8mb4_bin COMMENT 'it''s',
  PRIMARY KEY (id)
);
CREATE MATERIALIZED VIEW wide (PRIMARY KEY (id))
  COMMENT 'one'
  INTO dw.mart.wide EXISTING ROWS RECONCILE
  WITH (time_zone = 'Asia/Shanghai')
AS SELECT id FROM `order`;
CREATE VIEW simple
AS SELECT 1 AS id;
CREATE CONNECTION k TO KAFKA (USER 'u', PASSWORD SECRET p, BROKERS 'a:9092,b:9092', SASL MECHANISM 'PLAIN');
CREATE SOURCE flow FROM CONNECTION k (TOPIC 'flow', START AT TIMESTAMP '2026-01-02 03:04:05.000')
  FORMAT 'canal-json'
  TIME ZONE '+08:00'
  COMPRESSION 'lz4'
  SCHEMAS FROM CONNECTION dw
  TABLES (shop.orders);
CREATE SOURCE d FROM CONNECTION k (TOPICS 'dbz.*', TRANSACTIONS TOPIC 'dbz.t')
  FORMAT 'debezium-json'
  TABLES (a.b);
CREATE SOURCE e FROM CONNECTION k (TOPIC 'e', START AT OFFSETS ('0:5', 'e:1:7') OTHERS EARLIEST)
  FORMAT 'csv'
  DELIMITER '\t'
  TABLES (a.e);
CREATE CONNECTION s3 TO FILES (PATH 's3://b/p', ENDPOINT 'http://s:9', REGION 'r', ACCESS KEY SECRET p, \
SECRET KEY SECRET q)"
    );
}

#[test]
fn definitions_that_the_catalog_cannot_meet_are_refused_where_they_are() {
    let mut catalog = Catalog::default();
    for text in [
        "CREATE SECRET password FROM ENV 'P'",
        "CREATE CONNECTION f TO SQLITE (PATH 'f.db')",
        "CREATE CONNECTION shop TO MYSQL (HOST 'h', USER 'u')",
        "CREATE CONNECTION demo TO GENERATOR",
        "CREATE CONNECTION k TO KAFKA (BROKERS 'k:9092')",
        "CREATE CONNECTION up TO TIDB (HOST 'h', USER 'u')",
    ] {
        let (statement, _) = parse(text).unwrap().remove(0);
        let id = catalog.allocate();
        catalog.add(defined(&catalog, id, &statement, planned(vec![], "UTC"))).unwrap();
    }
    let id = catalog.allocate();
    for (text, at, message) in [
        (
            "CREATE CONNECTION c TO MYSQL (HOST 'h', USER 'u', PASSWORD SECRET pasword)",
            "pasword",
            "no secret `pasword`",
        ),
        ("CREATE SOURCE s FROM CONNECTION shp", "shp", "no connection `shp`"),
        ("CREATE SOURCE s FROM CONNECTION f", "f", "cannot read a SQLITE connection"),
        ("CREATE SOURCE s FROM CONNECTION k", "k", "no topic is named"),
        ("CREATE SOURCE s FROM CONNECTION shop (TOPIC 't') FORMAT 'simple'", "shop", "has no topics"),
        ("CREATE SOURCE s FROM CONNECTION k (TOPIC 't') TABLES (a.b (c INT PRIMARY KEY))", "k", "needs its FORMAT"),
        ("CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'simple' TABLES (a.b)", "k", "are not known"),
        ("CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'simple' TABLES (a.b (c INT))", "a.b", "no primary key"),
        (
            "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'simple' SNAPSHOT FROM CONNECTION shop TABLES (a.b)",
            "shop TABLES",
            "no GTIDs that tell what a snapshot of a MYSQL has",
        ),
        (
            "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'canal-json' SNAPSHOT FROM CONNECTION shop \
             TABLES (a.b)",
            "shop TABLES",
            "no GTIDs that tell",
        ),
        (
            "CREATE SOURCE s FROM CONNECTION k (TOPIC 't', TRANSACTIONS TOPIC 'x') FORMAT 'debezium-json' \
             SNAPSHOT FROM CONNECTION shop TABLES (a.b)",
            "shop TABLES",
            "would never be whole",
        ),
        (
            "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'debezium-json' SNAPSHOT FROM CONNECTION f \
             TABLES (a.b)",
            "f TABLES",
            "has no tables to copy",
        ),
        (
            "CREATE SOURCE s FROM CONNECTION k (TOPIC 't') FORMAT 'debezium-json' SNAPSHOT FROM CONNECTION up \
             TABLES (a.b)",
            "up",
            "no timestamps that tell",
        ),
        ("CREATE MATERIALIZED VIEW v INTO f.main.v AS SELECT 1", "f.main.v", "is connection.table, found `f.main.v`"),
        ("CREATE MATERIALIZED VIEW v INTO shop.v AS SELECT 1", "shop.v", "is connection.database.table"),
        ("CREATE MATERIALIZED VIEW v INTO demo.a.b AS SELECT 1", "demo.a.b", "holds no wide tables"),
        ("CREATE MATERIALIZED VIEW v (PRIMARY KEY (nope)) AS SELECT 1", "v (", "names `nope`"),
    ] {
        let (statement, _) = parse(text).unwrap().remove(0);
        let error = try_defined(&catalog, id, &statement, planned(vec![], "UTC")).expect_err(text);
        assert!(error.message.contains(message), "{error:?}");
        assert!(text[error.position.unwrap()..].starts_with(at), "{error:?}");
    }
}

#[test]
fn the_planner_sees_rows_queries_and_remembers_them() {
    let mut catalog = Catalog::default();
    for text in ["CREATE CONNECTION shop TO GENERATOR", "CREATE TABLE t (a INT)", "CREATE VIEW v AS SELECT a FROM t"] {
        let (statement, _) = parse(text).unwrap().remove(0);
        let id = catalog.allocate();
        catalog.add(defined(&catalog, id, &statement, planned(vec![], "UTC"))).unwrap();
    }
    let relations = CatalogRelations::new(&catalog);
    let relation = |name: &str| relations.relation(&name.split('.').map(str::to_string).collect::<Vec<_>>());
    assert!(matches!(relation("v"), Ok(Relation::View { query_text, .. }) if query_text == "SELECT a FROM t"));
    assert!(matches!(relation("T"), Ok(Relation::Stored { object: ObjectId(2), .. })));
    let error = relation("shop.shop.orders").unwrap_err();
    let hint = "no source follows it: CREATE SOURCE … FROM CONNECTION shop TABLES (shop.orders)";
    assert_eq!(error.hint.as_deref(), Some(hint));
    assert_eq!(relations.used(), [ObjectId(2), ObjectId(3)]);
}

/// The object that the text makes; `None` where the text is a comment because it cannot be shown.
fn remade(catalog: &Catalog, object: &Object, text: &str) -> Option<Object> {
    let mut statements = parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let Some((statement, _)) = statements.pop() else {
        assert!(matches!(object, Object::Secret(Secret { from: SecretFrom::As(_), .. })), "{text}");
        return None;
    };
    let planned = match object {
        Object::View(view) => Planned { schema: view.schema.clone(), ..planned(view.depends_on.clone(), "UTC") },
        _ => planned(vec![], "UTC"),
    };
    Some(defined(catalog, object.id(), &statement, planned))
}

fn planned(depends_on: Vec<ObjectId>, time_zone: &str) -> Planned {
    let schema = Schema { columns: vec![Column::new("id", SqlType::Date, false)], key: None };
    Planned { schema, depends_on, plan_hash: 1, semantics_version: 1, time_zone: time_zone.to_string() }
}

fn defined(catalog: &Catalog, id: ObjectId, statement: &Statement, planned: Planned) -> Object {
    try_defined(catalog, id, statement, planned).unwrap_or_else(|e| panic!("{e:?} {statement:?}"))
}

fn try_defined(
    catalog: &Catalog,
    id: ObjectId,
    statement: &Statement,
    planned: Planned,
) -> Result<Object, crate::plan::PlanError> {
    Ok(match statement {
        Statement::CreateSecret { name, from, .. } => Object::Secret(define::secret(id, name, from)),
        Statement::CreateConnection { name, to, options, .. } => {
            Object::Connection(define::connection(catalog, id, name, *to, options)?)
        }
        Statement::CreateSource(create) => Object::Source(define::source(catalog, id, create)?),
        Statement::CreateTable { name, schema, .. } => Object::Table(define::table(id, name, schema)),
        Statement::CreateView(create) => Object::View(define::view(catalog, id, create, planned)?),
        other => panic!("{other:?} creates nothing"),
    })
}

/// SplitMix64: the same objects for the same seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// A text with what quoting can get wrong.
    fn text(&mut self) -> String {
        const PIECES: &[&str] = &[
            "a", "B", "select", " ", "'", "''", "\\", "\\%", "\"", "`", ".", ";", "--", "/*", "\n", "é", "表", "%",
            "\\n",
        ];
        (0..self.below(6)).map(|_| self.pick(PIECES)).collect()
    }

    /// A name that no other object of the catalog has.
    fn name(&mut self, number: u64) -> String {
        const WORDS: [&str; 12] =
            ["key", "from", "if", "PRIMARY", "unique", "check", "on", "not", "select", "table", "as", "with"];
        match self.below(3) {
            0 => WORDS[number as usize].to_string(),
            _ => format!("{}{number}{}", self.text().replace('*', "+"), self.text()),
        }
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        if self.below(2) == 0 { None } else { Some(make(self)) }
    }

    fn sql_type(&mut self) -> SqlType {
        let digits = self.below(7) as u8;
        let (bytes, size) = (self.pick(&[1, 2, 3, 4, 8]), self.below(4) as u8 + 1);
        let mut labels: Vec<String> = (0..self.below(4) + 1).map(|_| self.text()).collect();
        labels.sort();
        labels.dedup();
        let unsigned = self.below(2) == 0;
        let (bits, short, long) = (self.below(64) as u8 + 1, self.below(256) as u32, self.below(65_536) as u32);
        let (precision, scale) = (self.below(65) as u8 + 1, self.below(31) as u8);
        self.pick(&[
            SqlType::Int { bytes, unsigned },
            SqlType::Year,
            SqlType::Bit(bits),
            SqlType::Float,
            SqlType::Double,
            SqlType::Decimal { precision, scale: scale.min(precision) },
            SqlType::Char(short),
            SqlType::Varchar(long),
            SqlType::Text(size),
            SqlType::Binary(short),
            SqlType::Varbinary(long),
            SqlType::Blob(size),
            SqlType::Enum(labels.clone()),
            SqlType::Set(labels),
            SqlType::Json,
            SqlType::Date,
            SqlType::Time(digits),
            SqlType::Datetime(digits),
            SqlType::Timestamp(digits),
        ])
    }

    fn schema(&mut self) -> Schema {
        let mut columns = vec![];
        for number in 0..self.below(6) + 1 {
            let (name, sql_type) = (self.name(number), self.sql_type());
            let mut column = Column::new(name, sql_type, self.below(2) == 0);
            column.comment = self.maybe(Random::text);
            if column.sql_type.is_text() && column.sql_type != SqlType::Json {
                column.collation = self.maybe(|r| r.name(0));
            }
            columns.push(column);
        }
        let key = self.maybe(|r| r.below(columns.len() as u64) as usize);
        key.into_iter().for_each(|k| columns[k].nullable = false);
        Schema { columns, key: key.map(|k| vec![k]) }
    }
}

fn random_catalog(seed: u64) -> Catalog {
    let mut r = Random(seed);
    let mut catalog = Catalog::default();
    for number in 0..12 {
        let id = catalog.allocate();
        let name = r.name(number);
        let of = |kind: ObjectKind| -> Vec<ObjectId> {
            catalog.objects().filter(|o| o.kind() == kind).map(|o| o.id()).collect()
        };
        let (secrets, connections) = (of(ObjectKind::Secret), of(ObjectKind::Connection));
        let object = match number % 5 {
            0 => {
                let value = r.text();
                let from = [SecretFrom::Env(value.clone()), SecretFrom::File(value.clone()), SecretFrom::As(value)];
                Object::Secret(Secret { id, name, from: r.pick(&from) })
            }
            1 => {
                let ssl_mode = r.maybe(|r| r.pick(&SslMode::ALL));
                let options = ConnectionOptions {
                    host: Some(r.text()),
                    port: r.maybe(|r| r.below(65_535) as u16 + 1),
                    user: Some(r.text()),
                    password: r.maybe(|r| r.pick(&secrets)),
                    ssl_ca: r.maybe(Random::text).filter(|_| ssl_mode.is_none_or(SslMode::verifies)),
                    ssl_mode,
                    snapshot_host: r.maybe(Random::text),
                    path: None,
                    ..Default::default()
                };
                Object::Connection(Connection { id, name, kind: ConnectionKind::Mysql, options })
            }
            2 => Object::Source(Source {
                id,
                name,
                connection: r.pick(&connections),
                tables: (0..r.below(3))
                    .map(|n| [r.name(n), if n == 0 { "*".to_string() } else { r.name(n) }])
                    .collect(),
                exclude_columns: (0..r.below(3)).map(|n| [r.name(n), r.name(n), r.name(n)]).collect(),
                feed: None,
                refresh_seconds: r.maybe(|r| r.pick(&[1, 90, 60, 7_200, 86_400, 86_401])),
            }),
            3 => Object::Table(Table { id, name: vec![name], source: None, schema: r.schema(), layouts: vec![] }),
            _ => Object::View(random_view(&mut r, id, name, &connections)),
        };
        catalog.add(object).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    catalog
}

fn random_view(r: &mut Random, id: ObjectId, name: String, connections: &[ObjectId]) -> View {
    let schema = r.schema();
    let materialized = r.below(2) == 0;
    let into = if materialized { r.maybe(|r| r.pick(connections)) } else { None };
    let key = r.maybe(|_| vec![schema.columns[0].name.clone()]);
    View {
        id,
        name,
        materialized,
        query_text: format!("SELECT {} AS x\nFROM {}", literal(&r.text()), identifier(&r.name(0))),
        schema,
        declared_key: key,
        options: ViewOptions { reconcile: into.is_some() && r.below(2) == 0 },
        into: into.map(|connection| WideTable { connection, table: vec![r.name(1), r.name(2)] }),
        comment: r.maybe(Random::text),
        depends_on: vec![],
        plan_hash: 1,
        semantics_version: 1,
        time_zone: if materialized { r.text() } else { "UTC".to_string() },
    }
}
