//! now() and INTERVALs, typed.

use super::{Kernel, Param, Scalar, Scope};
use crate::plan::build;
use crate::plan::functions::cast::Zone;
use crate::plan::functions::clock::Clock;
use crate::plan::functions::interval::{Interval, Unit};
use crate::plan::functions::types::{self, Number, TypeError};
use crate::plan::temporal;
use crate::row::datum::Datum;
use crate::row::types::{BIGINT, SqlType};

impl Scalar {
    /// The time alone decides its value.
    pub(super) fn is_clock(&self) -> bool {
        temporal::reads_clock(&self.expr) && build::columns_of(&self.expr).is_empty()
    }
}

impl Scope<'_> {
    /// MySQL's NOW() is the wall clock of the session: here of the view's zone.
    pub(super) fn clock(&self, name: &str, digits: &Scalar) -> Scalar {
        let Some(Datum::Int(digits)) = digits.literal else { panic!("the digits of a clock are a literal") };
        let utc = name == "utc_timestamp";
        let clock = Clock { zone: if utc { Zone::UTC } else { self.zone }, utc, digits: digits as u8 };
        self.bind(Kernel::Now(clock), vec![], clock.sql_type(), false, true)
    }

    pub(super) fn interval(&self, x: Scalar, n: Scalar, unit: &Scalar) -> Result<Scalar, TypeError> {
        let Some(Datum::Text(unit)) = &unit.literal else { panic!("the unit of an INTERVAL is a literal") };
        let subtracts = unit.starts_with('-');
        let unit = Unit::parse(&unit[1..]).expect("the unit was read before");
        let x = match &x.literal {
            Some(Datum::Text(text)) if Datum::parse(text, &SqlType::Date).is_ok() => self.cast(x, &SqlType::Date),
            _ => self.to_param(x, Param::Moment, &SqlType::Null)?,
        };
        let interval = Interval { unit, subtracts };
        let returns = interval.returns(&x.sql_type, &n.sql_type)?;
        let n = self.count(n)?;
        Ok(self.bind(Kernel::Interval(interval), vec![x, n], returns, true, true))
    }

    /// How many units: a whole number, also as a text.
    fn count(&self, n: Scalar) -> Result<Scalar, TypeError> {
        let hint = "give a whole number of a smaller unit, such as MICROSECOND";
        let whole = |n: &Scalar| matches!(types::number(&n.sql_type), Ok(Number::Int { .. }));
        match &n.literal {
            Some(Datum::Text(text)) => match text.trim().parse() {
                Ok(n) => Ok(super::literal(Datum::Int(n), BIGINT)),
                Err(_) => Err(TypeError::with_hint(format!("INTERVAL '{text}' is no whole number"), hint)),
            },
            _ if whole(&n) || n.sql_type == SqlType::Null => self.to_param(n, Param::Int, &SqlType::Null),
            _ => Err(TypeError::with_hint(format!("INTERVAL {} is no whole number", n.expr.text), hint)),
        }
    }
}
