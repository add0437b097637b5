//! Tests of the catalog: durable changes, drops, names.

use std::collections::BTreeMap;

use super::object::*;
use super::*;
use crate::row::schema::{Column, Schema};
use crate::row::types::BIGINT;

/// A catalog and the store's side of it, which every change goes through.
#[derive(Default)]
struct Durable {
    catalog: Catalog,
    kept: BTreeMap<String, Vec<u8>>,
}

impl Durable {
    fn add(&mut self, make: impl FnOnce(ObjectId) -> Object) -> ObjectId {
        let id = self.catalog.allocate();
        let changes = self.catalog.add(make(id)).unwrap();
        self.write(changes);
        id
    }

    fn write(&mut self, changes: Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => self.kept.insert(key, value),
                None => self.kept.remove(&key),
            };
        }
        let loaded = Catalog::load(&self.kept).unwrap();
        assert!(loaded.objects().eq(self.catalog.objects()), "what was written is not what is there");
    }

    fn refuse(&mut self, make: impl FnOnce(ObjectId) -> Object) -> CatalogError {
        let id = self.catalog.allocate();
        self.catalog.add(make(id)).unwrap_err()
    }

    fn resolve(&self, name: &str) -> Result<String, String> {
        let found = self.catalog.resolve(&parts(name));
        found
            .map(|o| format!("{} {}", o.kind(), o.name()))
            .map_err(|e| format!("{e}{}", e.hint().map(|hint| format!("; {hint}")).unwrap_or_default()))
    }
}

fn parts(name: &str) -> Vec<String> {
    name.split('.').map(str::to_string).collect()
}

fn schema() -> Schema {
    Schema { columns: vec![Column::new("id", BIGINT, false)], key: Some(vec![0]) }
}

fn secret(name: &str) -> impl FnOnce(ObjectId) -> Object {
    move |id| Object::Secret(Secret { id, name: name.to_string(), from: SecretFrom::As("hunter2".to_string()) })
}

fn connection(name: &str, password: Option<ObjectId>) -> impl FnOnce(ObjectId) -> Object {
    let options = ConnectionOptions { host: Some("db".to_string()), password, ..Default::default() };
    move |id| Object::Connection(Connection { id, name: name.to_string(), kind: ConnectionKind::Mysql, options })
}

fn source(name: &str, connection: ObjectId) -> impl FnOnce(ObjectId) -> Object {
    move |id| {
        Object::Source(Source {
            id,
            name: name.to_string(),
            connection,
            tables: vec![],
            exclude_columns: vec![],
            feed: None,
            refresh_seconds: None,
        })
    }
}

fn table(name: &str, source: Option<ObjectId>) -> impl FnOnce(ObjectId) -> Object {
    move |id| Object::Table(Table { id, name: parts(name), source, schema: schema(), layouts: vec![] })
}

fn view(name: &str, depends_on: Vec<ObjectId>, into: Option<ObjectId>) -> impl FnOnce(ObjectId) -> Object {
    let into = into.map(|connection| WideTable { connection, table: parts("mart.t") });
    move |id| {
        Object::View(View {
            id,
            name: name.to_string(),
            materialized: true,
            query_text: "SELECT 1".to_string(),
            schema: schema(),
            declared_key: None,
            into,
            options: ViewOptions::default(),
            comment: None,
            depends_on,
            plan_hash: 7,
            semantics_version: 1,
            time_zone: "UTC".to_string(),
        })
    }
}

/// secret ← shop (connection) ← shop (source) ← shop.shop.orders ← v ← w, v goes into dw.
fn warehouse() -> (Durable, BTreeMap<&'static str, ObjectId>) {
    let mut durable = Durable::default();
    let password = durable.add(secret("password"));
    let shop = durable.add(connection("shop", Some(password)));
    let dw = durable.add(connection("dw", None));
    let followed = durable.add(source("shop", shop));
    let orders = durable.add(table("shop.shop.orders", Some(followed)));
    let users = durable.add(table("shop.shop.users", Some(followed)));
    let v = durable.add(view("v", vec![orders], Some(dw)));
    let w = durable.add(view("w", vec![v, users], None));
    let ids = [("password", password), ("shop", shop), ("dw", dw), ("source", followed), ("orders", orders)];
    (durable, ids.into_iter().chain([("users", users), ("v", v), ("w", w)]).collect())
}

#[test]
fn ids_are_never_used_twice() {
    let mut durable = Durable::default();
    let first = durable.add(table("t", None));
    let dropped = durable.catalog.drop(first, false).unwrap();
    durable.write(dropped.changes);
    assert_eq!(durable.catalog.objects().count(), 0);
    let mut again = Catalog::load(&durable.kept).unwrap();
    assert!(again.allocate() > first, "the id of a dropped table came back after a restart");
}

#[test]
fn a_drop_names_what_needs_the_object_and_cascades_in_order() {
    let (mut durable, ids) = warehouse();
    let error = durable.catalog.drop(ids["shop"], false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "connection `shop` is needed by source `shop`, table `shop.shop.orders`, table `shop.shop.users`, \
         materialized view `v`, materialized view `w`"
    );
    let error = durable.catalog.drop(ids["source"], false).unwrap_err();
    assert_eq!(error.to_string(), "source `shop` is needed by materialized view `v`, materialized view `w`");
    assert!(matches!(durable.catalog.drop(ids["dw"], false), Err(CatalogError::Needed { .. })));
    let error = durable.catalog.drop(ids["orders"], true).unwrap_err();
    assert_eq!(error.to_string(), "table `shop.shop.orders` belongs to source `shop`");
    assert_eq!(durable.catalog.dependents(ids["orders"]), [ids["v"]]);

    let dropped = durable.catalog.drop(ids["source"], true).unwrap();
    let order: Vec<_> = dropped.objects.iter().map(|o| o.id()).collect();
    assert_eq!(order, ["w", "v", "users", "orders", "source"].map(|name| ids[name]));
    durable.write(dropped.changes);
    let dropped = durable.catalog.drop(ids["shop"], false).unwrap();
    assert_eq!(dropped.objects.len(), 1);
    durable.write(dropped.changes);
}

#[test]
fn a_source_without_readers_goes_with_its_tables() {
    let (mut durable, ids) = warehouse();
    for view in ["w", "v"] {
        let dropped = durable.catalog.drop(ids[view], false).unwrap();
        durable.write(dropped.changes);
    }
    let dropped = durable.catalog.drop(ids["source"], false).unwrap();
    assert_eq!(dropped.objects.len(), 3);
    durable.write(dropped.changes);
}

#[test]
fn a_view_is_replaced_only_while_nothing_needs_it() {
    let (mut durable, ids) = warehouse();
    let id = durable.catalog.allocate();
    let new = view("V", vec![ids["orders"]], None)(id);
    assert!(matches!(durable.catalog.replace(ids["v"], new), Err(CatalogError::Needed { .. })));
    let id = durable.catalog.allocate();
    let (old, changes) = durable.catalog.replace(ids["w"], view("W", vec![ids["orders"]], None)(id)).unwrap();
    assert_eq!((old.id(), old.name().as_str()), (ids["w"], "w"));
    durable.write(changes);
    assert_eq!(durable.catalog.resolve(&parts("w")).unwrap().id(), id);
}

#[test]
fn a_wide_table_has_one_view() {
    let (mut durable, ids) = warehouse();
    let error = durable.refuse(view("x", vec![], Some(ids["dw"])));
    assert_eq!(error.to_string(), "wide table `dw.mart.t` is written by view `v`");
    let id = durable.catalog.allocate();
    assert!(durable.catalog.replace(ids["w"], view("w", vec![], Some(ids["dw"]))(id)).is_err());
    assert_eq!(durable.catalog.resolve(&parts("w")).unwrap().id(), ids["w"], "a refused replacement changes nothing");
    let dropped = durable.catalog.drop(ids["v"], true).unwrap();
    durable.write(dropped.changes);
    durable.add(view("x", vec![], Some(ids["dw"])));
}

#[test]
fn names_of_a_set_do_not_differ_only_in_case() {
    let (mut durable, ids) = warehouse();
    assert_eq!(durable.refuse(view("V", vec![], None)).to_string(), "materialized view `v` exists already");
    assert_eq!(durable.refuse(table("W", None)).to_string(), "materialized view `w` exists already");
    assert_eq!(durable.refuse(connection("SHOP", None)).to_string(), "connection `shop` exists already");
    durable.add(table("shop.shop.ORDERS", Some(ids["source"])));
    durable.add(secret("shop"));
}

#[test]
fn a_name_means_one_relation_or_lists_what_it_could_mean() {
    let (mut durable, ids) = warehouse();
    for name in ["orders", "shop.orders", "shop.shop.orders", "ORDERS", "Shop.Orders"] {
        assert_eq!(durable.resolve(name).unwrap(), "table shop.shop.orders", "{name}");
    }
    assert_eq!(durable.resolve("V").unwrap(), "materialized view v");
    assert_eq!(durable.resolve("public.v").unwrap(), "materialized view v");
    assert_eq!(durable.resolve("orderz").unwrap_err(), "there is no table or view `orderz`; did you mean `orders`?");
    assert_eq!(durable.resolve("pay.orders").unwrap_err(), "there is no table or view `pay.orders`");
    assert_eq!(
        durable.resolve("shop.shop.oders").unwrap_err(),
        "there is no table or view `shop.shop.oders`; did you mean `shop.shop.orders`?"
    );

    durable.add(table("shop.pay.orders", Some(ids["source"])));
    durable.add(table("shop.shop.Users", Some(ids["source"])));
    durable.add(table("orders", None));
    assert_eq!(
        durable.resolve("orders").unwrap_err(),
        "`orders` is ambiguous: it can be shop.shop.orders or shop.pay.orders or public.orders; write the longer name"
    );
    assert_eq!(durable.resolve("pay.orders").unwrap(), "table shop.pay.orders");
    assert_eq!(durable.resolve("public.orders").unwrap(), "table orders");
    assert_eq!(durable.resolve("users").unwrap(), "table shop.shop.users", "the typed case wins");
    assert_eq!(durable.resolve("Users").unwrap(), "table shop.shop.Users", "the typed case wins");
    assert!(durable.resolve("USERS").unwrap_err().contains("ambiguous"));

    let among = durable.catalog.resolve_among(&parts("orders"), |id| id == ids["orders"]);
    assert_eq!(among.unwrap().id(), ids["orders"], "a view that is planned again keeps its meaning");
}

#[test]
fn objects_are_found_by_kind() {
    let (durable, ids) = warehouse();
    let find = |kind, name: &str| durable.catalog.find(kind, &parts(name)).map(|o| o.id());
    assert_eq!(find(ObjectKind::Source, "Shop"), Ok(ids["source"]));
    assert_eq!(find(ObjectKind::Connection, "shop"), Ok(ids["shop"]));
    let error = find(ObjectKind::View, "v").unwrap_err();
    assert_eq!(error.to_string(), "`v` is a materialized view, not a view");
    let error = find(ObjectKind::Secret, "pasword").unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `password`?");
    assert_eq!(durable.catalog.names(), ["dw", "password", "shop", "shop.shop.orders", "shop.shop.users", "v", "w"]);
}

#[test]
fn a_damaged_entry_is_named() {
    let (durable, _) = warehouse();
    let mut kept = durable.kept.clone();
    let key = object_key(ObjectId(1));
    kept.insert(key.clone(), b"{".to_vec());
    assert!(Catalog::load(&kept).unwrap_err().to_string().contains(&key));
    kept.remove(&key);
    assert!(Catalog::load(&kept).unwrap_err().to_string().contains("needs object #1"));
    let mut kept = durable.kept.clone();
    kept.insert(NEXT_ID_KEY.to_string(), b"3".to_vec());
    assert!(Catalog::load(&kept).unwrap_err().to_string().contains(NEXT_ID_KEY));
}

#[test]
fn no_debug_text_shows_a_secret() {
    let (durable, _) = warehouse();
    assert!(!format!("{:?}", durable.catalog).contains("hunter2"));
}
