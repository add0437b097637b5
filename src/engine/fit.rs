//! Values on their way into a column of a local table: they fit, or the column is named.

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};

use crate::engine::error::{EngineError, ErrorKind};
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::schema::Column;
use crate::row::types::SqlType;

/// The values as the column's type holds them; what does not fit is an error that names the column.
pub fn fit(values: &ArrayRef, from: &SqlType, column: &Column) -> Result<ArrayRef, EngineError> {
    if !column.nullable && values.null_count() > 0 {
        let message = format!("column {} cannot be NULL", column.name);
        return Err(EngineError::new(ErrorKind::NotNullViolation, message));
    }
    let does_not_fit = |value: &str| {
        let message = format!("value {value} does not fit column {} of type {}", column.name, column.sql_type);
        EngineError::new(ErrorKind::InvalidValue, message)
    };
    let to = column.sql_type.arrow();
    let values = if values.data_type() == &to {
        ArrayRef::clone(values)
    } else if from.is_text() {
        let mut builder = ColumnBuilder::new(&column.sql_type, values.len());
        for row in 0..values.len() {
            let datum = match Datum::of(values, from, row) {
                Datum::Text(text) => {
                    Datum::parse(&text, &column.sql_type).map_err(|_| does_not_fit(&format!("'{text}'")))?
                }
                other => other,
            };
            builder.push(&datum).map_err(|error| does_not_fit(&error.value))?;
        }
        builder.finish()
    } else {
        let options = CastOptions { safe: false, ..Default::default() };
        cast_with_options(values, &to, &options).map_err(|error| does_not_fit(&format!("({error})")))?
    };
    check_text(&values, column, &does_not_fit)?;
    Ok(values)
}

/// Lengths of CHAR and VARCHAR in characters, labels of ENUM.
fn check_text(values: &ArrayRef, column: &Column, bad: &dyn Fn(&str) -> EngineError) -> Result<(), EngineError> {
    let fits: Box<dyn Fn(&str) -> bool> = match &column.sql_type {
        SqlType::Char(length) | SqlType::Varchar(length) => {
            let length = *length as usize;
            Box::new(move |text| text.chars().count() <= length)
        }
        SqlType::Enum(labels) => Box::new(move |text| labels.iter().any(|label| label == text)),
        SqlType::Json => Box::new(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()),
        _ => return Ok(()),
    };
    for row in 0..values.len() {
        if let Datum::Text(text) = Datum::of(values, &column.sql_type, row)
            && !fits(&text)
        {
            return Err(bad(&format!("'{text}'")));
        }
    }
    Ok(())
}
