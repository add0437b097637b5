//! Schemas from their JSON.
//!
//! A registry is trusted no more than the messages are: a schema that never ends, or that makes much of few bytes, is
//! refused here, and its own nesting is bounded by the JSON reader.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::schema::{Field, Kind, Node, Schema};
use crate::sources::formats::debezium::modes::Binaries;
use crate::sources::formats::debezium::semantic::{Semantic, Unit};

/// A value of one type may have so many values in it that take no bytes of their own.
pub(super) const WEIGHT_MAX: usize = 100_000;
/// A FIXED is no longer.
const FIXED_BYTES_MAX: u64 = 1 << 30;

impl Schema {
    /// Reads a schema; `references` are those that it names types of, each before what refers to it. The error says
    /// what is wrong with it.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        let bytes = references.iter().map(String::len).sum::<usize>() + text.len();
        Ok(Schema { nodes: parser.nodes, root, bytes })
    }
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    /// Full names, also of records that are being read.
    named: HashMap<String, usize>,
}

/// The weight of a record whose fields are not known yet.
const UNKNOWN: usize = usize::MAX;

impl Parser {
    fn text(&mut self, text: &str) -> Result<usize, String> {
        let json: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
        self.node(&json, "")
    }

    /// The type's place. The JSON reader bounds how deep this goes.
    fn node(&mut self, json: &Value, namespace: &str) -> Result<usize, String> {
        match json {
            Value::String(name) => match primitive(name) {
                Some(kind) => Ok(self.push(kind, &Map::new())),
                None => self.find(name, namespace),
            },
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(word)) => self.declared(word, object, namespace),
                Some(inner) => self.node(inner, namespace),
                None => Err("a type has no `type`".to_string()),
            },
            other => Err(format!("{} is no type", shown(&other.to_string()))),
        }
    }

    fn push(&mut self, kind: Kind, object: &Map<String, Value>) -> usize {
        let connect = object.get("connect.name").and_then(Value::as_str).map(str::to_string);
        let parameters = parameters(object);
        let semantic = semantic(&kind, connect.as_deref(), object, &parameters);
        self.nodes.push(Node { kind, semantic, connect, parameters, weight: 1 });
        self.nodes.len() - 1
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<usize, String> {
        let mut places = Vec::with_capacity(branches.len());
        for branch in branches {
            let at = self.node(branch, namespace)?;
            if matches!(self.nodes[at].kind, Kind::Union(_)) {
                return Err("a union holds a union".to_string());
            }
            places.push(at);
        }
        match places.is_empty() {
            true => Err("a union holds nothing".to_string()),
            false => Ok(self.push(Kind::Union(places), &Map::new())),
        }
    }

    fn declared(&mut self, word: &str, object: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let inner = |name: &str| object.get(name).ok_or_else(|| format!("a type `{word}` has no `{name}`"));
        let kind = match word {
            "record" | "error" => return self.record(object, namespace),
            "array" => Kind::Array(self.node(inner("items")?, namespace)?),
            "map" => Kind::Map(self.node(inner("values")?, namespace)?),
            "enum" => {
                let symbols = inner("symbols")?.as_array().into_iter().flatten();
                Kind::Enum(symbols.map(text).collect::<Option<_>>().ok_or("an enum's symbols are no texts")?)
            }
            "fixed" => {
                let size = inner("size")?.as_u64().filter(|size| *size <= FIXED_BYTES_MAX);
                Kind::Fixed(size.ok_or("a fixed has no size, or one above 1 GiB")? as usize)
            }
            name => match primitive(name) {
                Some(kind) => kind,
                None => return self.find(name, namespace),
            },
        };
        let is_named = matches!(kind, Kind::Enum(_) | Kind::Fixed(_));
        let at = self.push(kind, object);
        if is_named {
            let (full, _) = full_name(object, namespace)?;
            self.name(full, at)?;
        }
        Ok(at)
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let (full, namespace) = full_name(object, namespace)?;
        let at = self.push(Kind::Record(Vec::new()), object);
        self.nodes[at].weight = UNKNOWN;
        self.name(full.clone(), at)?;
        let given = object.get("fields").and_then(Value::as_array).ok_or_else(|| format!("{full} has no fields"))?;
        let mut fields: Vec<Field> = Vec::with_capacity(given.len());
        let mut weight = 1usize;
        for field in given {
            let field = field.as_object().ok_or_else(|| format!("a field of {full} is no object"))?;
            let name = field.get("name").and_then(text).ok_or_else(|| format!("a field of {full} has no name"))?;
            let json = field.get("type").ok_or_else(|| format!("field {name} of {full} has no type"))?;
            let node = self.node(json, &namespace)?;
            let aliases = field.get("aliases").and_then(Value::as_array).into_iter().flatten();
            weight = weight.saturating_add(self.nodes[node].weight);
            if self.nodes[node].weight == UNKNOWN {
                return Err(format!("{full} holds itself in field {name}, without end"));
            }
            fields.push(Field { name, aliases: aliases.filter_map(text).collect(), node });
        }
        if weight > WEIGHT_MAX {
            return Err(format!("{full} has more than {WEIGHT_MAX} values in it"));
        }
        (self.nodes[at].kind, self.nodes[at].weight) = (Kind::Record(fields), weight);
        Ok(at)
    }

    fn name(&mut self, full: String, at: usize) -> Result<(), String> {
        if self.named.contains_key(&full) {
            return Err(format!("type {} is declared twice", shown(&full)));
        }
        self.named.insert(full, at);
        Ok(())
    }

    fn find(&self, name: &str, namespace: &str) -> Result<usize, String> {
        let full = if name.contains('.') || namespace.is_empty() { name } else { &format!("{namespace}.{name}") };
        let found = self.named.get(full).or_else(|| self.named.get(name));
        found.copied().ok_or_else(|| format!("type {} is not declared before it is used", shown(name)))
    }
}

/// The name with its namespace, and the namespace of what is inside.
fn full_name(object: &Map<String, Value>, enclosing: &str) -> Result<(String, String), String> {
    let name = object.get("name").and_then(Value::as_str).ok_or("a record, enum or fixed has no name")?;
    if let Some((namespace, _)) = name.rsplit_once('.') {
        return Ok((name.to_string(), namespace.to_string()));
    }
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    let full = if namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") };
    Ok((full, namespace.to_string()))
}

fn primitive(word: &str) -> Option<Kind> {
    Some(match word {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

fn parameters(object: &Map<String, Value>) -> BTreeMap<String, String> {
    let given = object.get("connect.parameters").and_then(Value::as_object).into_iter().flatten();
    let mut parameters: BTreeMap<String, String> =
        given.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
    if let Some(precision) = object.get("precision").and_then(Value::as_u64) {
        parameters.insert("precision".to_string(), precision.to_string());
    }
    parameters
}

/// Debezium's own names say more than a logical type, a logical type more than Connect's names.
fn semantic(
    kind: &Kind,
    connect: Option<&str>,
    object: &Map<String, Value>,
    parameters: &BTreeMap<String, String>,
) -> Semantic {
    let is_scalar = !matches!(kind, Kind::Record(_) | Kind::Array(_) | Kind::Map(_) | Kind::Union(_) | Kind::Null);
    let scale = parameters.get("scale").and_then(|scale| scale.parse().ok());
    let named = connect.map(|name| Semantic::named(name, scale));
    match named {
        // A record of VariableScaleDecimal's; the names of other records are those of their tables.
        Some(Semantic::VariableDecimal) => return Semantic::VariableDecimal,
        Some(named) if is_scalar && connect.is_some_and(|name| name.starts_with("io.debezium.")) => return named,
        _ => {}
    }
    let logical = object.get("logicalType").and_then(Value::as_str).and_then(|word| logical(kind, word, object));
    let named = named.filter(|named| is_scalar && !matches!(named, Semantic::Other(_)));
    logical.or(named).unwrap_or(match kind {
        Kind::Bytes | Kind::Fixed(_) => Semantic::Bytes(Binaries::Bytes),
        _ => Semantic::Plain,
    })
}

/// One that does not go with its type says nothing, as Avro's specification has it.
fn logical(kind: &Kind, word: &str, object: &Map<String, Value>) -> Option<Semantic> {
    Some(match (word, kind) {
        ("decimal", Kind::Bytes | Kind::Fixed(_)) => {
            Semantic::Decimal { scale: Some(object.get("scale").map_or(Some(0), Value::as_i64)?) }
        }
        ("date", Kind::Int) => Semantic::Days,
        ("time-millis", Kind::Int) => Semantic::Time(Unit::Millis),
        ("time-micros", Kind::Long) => Semantic::Time(Unit::Micros),
        ("timestamp-millis", Kind::Long) => Semantic::Moment(Unit::Millis),
        ("timestamp-micros", Kind::Long) => Semantic::Moment(Unit::Micros),
        ("timestamp-nanos", Kind::Long) => Semantic::Moment(Unit::Nanos),
        ("local-timestamp-millis", Kind::Long) => Semantic::Instant(Unit::Millis),
        ("local-timestamp-micros", Kind::Long) => Semantic::Instant(Unit::Micros),
        ("local-timestamp-nanos", Kind::Long) => Semantic::Instant(Unit::Nanos),
        ("uuid", Kind::Fixed(16)) => Semantic::Uuid,
        ("duration", Kind::Fixed(12)) => Semantic::Other("duration".to_string()),
        _ => return None,
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_string)
}

fn shown(text: &str) -> String {
    crate::sources::formats::text::shown(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_their_namespaces() {
        let text = r#"{"type":"record","name":"Row","namespace":"a.b","fields":[
            {"name":"x","type":{"type":"fixed","name":"F","size":4}},
            {"name":"y","type":["null","F"]},
            {"name":"z","type":{"type":"record","name":"c.In","fields":[{"name":"k","type":"a.b.F"}]}},
            {"name":"next","type":["null","Row"],"aliases":["n"]},
            {"name":"other","type":"Elsewhere"}]}"#;
        let elsewhere = r#"{"type":"enum","name":"Elsewhere","namespace":"a.b","symbols":["P","Q"]}"#.to_string();
        let schema = Schema::parse(text, std::slice::from_ref(&elsewhere)).unwrap();
        let fields = schema.fields().unwrap();
        assert!(matches!(schema.node_of(&fields[1]), Some((Node { kind: Kind::Fixed(4), .. }, true))));
        assert!(matches!(&schema.node_of(&fields[4]).unwrap().0.kind, Kind::Enum(symbols) if symbols.len() == 2));
        assert_eq!(
            (fields[3].aliases.as_slice(), schema.bytes),
            (&["n".to_string()][..], text.len() + elsewhere.len())
        );
        assert!(Schema::parse(text, &[]).unwrap_err().contains("'Elsewhere' is not declared"));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let deep = r#"{"type":"array","items":"#.repeat(500) + "\"int\"" + &"}".repeat(500);
        let wide = |n: usize| {
            let field = |i: usize| format!(r#"{{"name":"f{i}","type":"R{}"}}"#, n - 1);
            format!(r#"{{"type":"record","name":"R{n}","fields":[{},{}]}}"#, field(0), field(1))
        };
        let bomb = r#"{"type":"record","name":"R0","fields":[]}"#.to_string();
        let bombs: Vec<String> = std::iter::once(bomb).chain((1..40).map(wide)).collect();
        assert!(Schema::parse("\"R39\"", &bombs).unwrap_err().contains("more than 100000 values"));
        for (text, reason) in [
            ("", "no JSON"),
            ("7", "no type"),
            ("\"R\"", "not declared"),
            ("[]", "holds nothing"),
            (r#"["null",["int"]]"#, "a union holds a union"),
            (r#"{"type":"array"}"#, "has no `items`"),
            (r#"{"type":"fixed","name":"F","size":-1}"#, "no size"),
            (r#"{"type":"fixed","name":"F","size":9999999999}"#, "above 1 GiB"),
            (r#"{"type":"enum","name":"E","symbols":[1]}"#, "no texts"),
            (r#"{"type":"record","name":"R"}"#, "no fields"),
            (r#"{"type":"record","fields":[]}"#, "no name"),
            (r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#, "without end"),
            (r#"["int",{"type":"enum","name":"E","symbols":[]},{"type":"enum","name":"E","symbols":[]}]"#, "twice"),
            (deep.as_str(), "recursion limit"),
        ] {
            let error = Schema::parse(text, &[]).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
