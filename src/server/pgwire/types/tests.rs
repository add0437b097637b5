//! Numbers in the forms that clients are strictest about.

use super::*;

#[track_caller]
fn double(value: f64) -> String {
    let mut out = BytesMut::new();
    put_text(&Datum::Double(value), &SqlType::Double, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn floats_print_as_postgresql_prints_them() {
    let expected = [
        (0.0, "0"),
        (-0.5, "-0.5"),
        (123456.789, "123456.789"),
        (1e14, "100000000000000"),
        (1e15, "1e+15"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e300, "1.5e+300"),
        (f64::NAN, "NaN"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, text) in expected {
        assert_eq!(double(value), text);
        assert_eq!(double(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
    }
}

#[test]
fn numerics_round_trip() {
    let texts =
        ["0", "0.00", "1", "-1", "9999", "10000", "-10000.0001", "0.0001", "0.00001", "123456789.50", "100000000"];
    for text in texts {
        let mut out = BytesMut::new();
        put_numeric(text, &mut out);
        assert_eq!(numeric_text(&out).as_deref(), Some(text));
    }
    assert_eq!(numeric_text(&[0, 1, 0, 0, 0xc0, 0, 0, 0, 0, 1]), None, "NaN is no number");
    assert_eq!(numeric_text(&[0, 9]), None);
}
