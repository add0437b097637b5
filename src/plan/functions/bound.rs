//! A call with its types: the unit that runs on Arrow batches.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DataFusionError, Result as DataFusionResult};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::cast::{Mode, Zone};
use super::clock::Clock;
use super::interval::Interval;
use super::{Fault, Function, Types, arithmetic, cast, types};
use crate::row::datum::{ColumnBuilder, Datum};
use crate::row::types::SqlType;

/// What a [`Bound`] call does.
#[derive(Clone, Copy)]
pub enum Kernel {
    Function(&'static Function),
    Arithmetic(arithmetic::Op),
    Cast(Mode, Zone),
    Interval(Interval),
    /// Stands for a literal until it is known at which timestamp.
    Now(Clock),
}

/// What tells two calls of one name apart besides their types.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Detail {
    None,
    Cast(Mode, Zone),
    Interval(Interval),
    Now(Clock),
}

impl Kernel {
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Function(function) => function.name,
            Kernel::Arithmetic(op) => op.name(),
            Kernel::Cast(..) => "cast",
            Kernel::Interval(_) => "interval",
            Kernel::Now(_) => "now",
        }
    }

    fn detail(&self) -> Detail {
        match *self {
            Kernel::Function(_) | Kernel::Arithmetic(_) => Detail::None,
            Kernel::Cast(mode, zone) => Detail::Cast(mode, zone),
            Kernel::Interval(interval) => Detail::Interval(interval),
            Kernel::Now(clock) => Detail::Now(clock),
        }
    }
}

/// A kernel over columns of known types.
pub struct Bound {
    kernel: Kernel,
    args: Vec<SqlType>,
    returns: SqlType,
    signature: Signature,
}

impl Bound {
    pub fn new(kernel: Kernel, args: Vec<SqlType>, returns: SqlType) -> Bound {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Bound { kernel, args, returns, signature }
    }

    pub fn into_udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(self))
    }

    /// How EXPLAIN prints the call.
    pub fn text(&self, args: &[String]) -> String {
        match (self.kernel, args) {
            (Kernel::Arithmetic(op), [a, b]) => format!("({a} {} {b})", op.name().to_uppercase()),
            (Kernel::Arithmetic(_), _) => format!("-{}", args.join(", ")),
            (Kernel::Cast(..), _) => format!("CAST({} AS {})", args.join(", "), self.returns),
            (Kernel::Function(function), _) => format!("{}({})", function.name.to_uppercase(), args.join(", ")),
            (Kernel::Interval(Interval { unit, subtracts }), [x, n]) => {
                format!("({x} {} INTERVAL {n} {})", if subtracts { "-" } else { "+" }, unit.name())
            }
            (Kernel::Interval(_), _) => panic!("an INTERVAL has a moment and a number"),
            (Kernel::Now(clock), _) => clock.name(),
        }
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The types of its arguments and of its result.
    pub fn types(&self) -> (&[SqlType], &SqlType) {
        (&self.args, &self.returns)
    }

    /// The type that it gives its argument, where no value becomes another one.
    pub fn widens(&self) -> Option<&SqlType> {
        let (Kernel::Cast(..), [from]) = (self.kernel, self.args.as_slice()) else { return None };
        let keeps = match (from, &self.returns) {
            (SqlType::Int { .. }, SqlType::Int { .. }) | (_, SqlType::Decimal { .. }) => {
                cast::fits_always(from, &self.returns)
            }
            (SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text(_), to) => *to == types::LONGTEXT,
            _ => false,
        };
        keeps.then_some(&self.returns)
    }

    pub fn run(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, Fault> {
        match self.kernel {
            Kernel::Function(function) => self.run_rows(function, columns, rows),
            Kernel::Arithmetic(op) => arithmetic::run(op, columns, &self.args, &self.returns),
            Kernel::Cast(mode, zone) => cast::column(&columns[0], &self.args[0], &self.returns, mode, zone),
            Kernel::Interval(interval) => interval.run(columns, &self.args, &self.returns),
            Kernel::Now(clock) => panic!("{} is bound before it is run", clock.name()),
        }
    }

    fn run_rows(&self, function: &Function, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, Fault> {
        let types = Types { args: &self.args, returns: &self.returns };
        let mut builder = ColumnBuilder::new(&self.returns, rows);
        let mut row = Vec::with_capacity(columns.len());
        for i in 0..rows {
            row.clear();
            row.extend(columns.iter().zip(&self.args).map(|(column, t)| Datum::of(column, t, i)));
            let null = function.strict && row.contains(&Datum::Null);
            let result = if null { Datum::Null } else { (function.eval)(&row, &types)? };
            builder.push(&result).map_err(|e| Fault::DoesNotFit { value: e.value, sql_type: e.sql_type })?;
        }
        Ok(builder.finish())
    }

    fn identity(&self) -> (&'static str, &[SqlType], &SqlType, Detail) {
        (self.kernel.name(), &self.args, &self.returns, self.kernel.detail())
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.kernel.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.returns.arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.returns.arrow(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DataFusionResult<Vec<_>>>()?;
        match self.run(&columns, rows) {
            Ok(column) => Ok(ColumnarValue::Array(column)),
            Err(fault) => Err(DataFusionError::External(Box::new(fault))),
        }
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.identity())
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Bound) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Bound {}

impl std::hash::Hash for Bound {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// The fault behind an evaluation's error, if it is one of ours.
pub fn fault_of(error: &DataFusionError) -> Option<&Fault> {
    let DataFusionError::External(inner) = error else { return None };
    let inner: &(dyn std::error::Error + 'static) = inner.as_ref();
    inner.downcast_ref::<Fault>()
}
