//! The decoders under test, by the folder of their golden files.

use tidemill::sources::formats::canal::{Canal, Expects};
use tidemill::sources::formats::debezium::{Debezium, DebeziumAvro, Modes};
use tidemill::sources::formats::open::OpenProtocol;
use tidemill::sources::formats::plain::{Csv, Encoding, Plain};
use tidemill::sources::formats::simple::Simple;
use tidemill::sources::formats::{Decode, Settings};

/// Makes a decoder of a variant; `None`: the format has no such variant.
pub type Make = fn(&str, Settings) -> Option<Box<dyn Decode>>;

/// The formats by their folder. A new one is a line here and a folder of cases.
pub const FORMATS: &[(&str, Make)] =
    &[("avro", avro), ("canal", canal), ("debezium", debezium), ("open", open), ("plain", plain), ("simple", simple)];

/// By schemas of a registry.
fn avro(variant: &str, settings: Settings) -> Option<Box<dyn Decode>> {
    match variant {
        "plain" => Some(Box::new(Plain::new(settings, Encoding::Avro))),
        "debezium" => Some(Box::new(DebeziumAvro::new(Modes::default()))),
        _ => None,
    }
}

fn canal(variant: &str, settings: Settings) -> Option<Box<dyn Decode>> {
    let expects = match variant {
        "ticdc" => Expects::TiCdc,
        "ticdc-row-level" => Expects::TiCdcRowLevel,
        "official" => Expects::Official,
        "either" => Expects::Either,
        _ => return None,
    };
    Some(Box::new(Canal::new(settings, expects)))
}

/// `default`, or the connector's settings that differ.
fn debezium(variant: &str, _: Settings) -> Option<Box<dyn Decode>> {
    let mut modes = Modes::default();
    for setting in variant.split(' ').filter(|setting| *setting != "default") {
        let (name, value) = setting.split_once('=')?;
        modes.set(name, value).ok()?;
    }
    Some(Box::new(Debezium::new(modes)))
}

fn open(_: &str, settings: Settings) -> Option<Box<dyn Decode>> {
    Some(Box::new(OpenProtocol::new(settings)))
}

fn simple(_: &str, settings: Settings) -> Option<Box<dyn Decode>> {
    Some(Box::new(Simple::new(settings)))
}

fn plain(variant: &str, settings: Settings) -> Option<Box<dyn Decode>> {
    let csv = |delimiter, header| Encoding::Csv(Csv { delimiter, header });
    let encoding = match variant {
        "json" => Encoding::Json,
        "csv" => csv(',', false),
        "csv;header" => csv(';', true),
        _ => return None,
    };
    Some(Box::new(Plain::new(settings, encoding)))
}
