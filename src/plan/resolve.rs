//! Names to relations and columns: DataFusion's SQL planner over our catalog.
//!
//! It resolves scopes, aliases, ordinals, wildcards, CTEs and views, and finds the aggregates; it decides no type and
//! runs no rule of its own: every operator comes as a call (`desugar`), which [`Named`] stands for until `scalars`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, Result as DataFusionResult, SchemaError, TableReference};
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, HigherOrderUDF, LogicalPlan, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableSource, TypeSignature, Volatility, WindowUDF,
};
use datafusion_sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;
use sqlparser::parser::Parser;

use super::desugar::{self, Spellings};
use super::dialect::TidemillDialect;
use super::functions::{self, AGGREGATES};
use super::refuse::{self, Source, Use};
use super::{PlanError, PlanErrorKind, Relation, Relations};
use crate::row::ObjectId;
use crate::row::schema::Schema;

/// Views over views over …: a limit against a catalog that refers to itself.
const VIEW_DEPTH_MAX: usize = 32;

/// A table's rows, as a leaf of the resolved tree.
pub struct Stored {
    pub object: ObjectId,
    pub name: String,
    pub schema: Schema,
    names: SchemaRef,
}

impl TableSource for Stored {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.names)
    }
}

/// A plain view, planned in place.
struct View {
    plan: LogicalPlan,
    names: SchemaRef,
}

impl TableSource for View {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.names)
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// A query with its names resolved.
pub struct Resolved {
    pub plan: LogicalPlan,
    /// Column aliases as typed, by their lower-case form.
    pub aliases: BTreeMap<String, String>,
}

pub fn query(query: &ast::Query, source: Source<'_>, relations: &dyn Relations) -> Result<Resolved, PlanError> {
    let names = Names::new(relations, 0);
    let plan = names.plan(query.clone(), source)?;
    Ok(Resolved { plan, aliases: names.spellings.into_inner().aliases })
}

/// An expression over one table's columns, already desugared.
pub fn expr(expr: ast::Expr, names: &DFSchema, source: Source<'_>) -> Result<Expr, PlanError> {
    let original = expr.clone();
    let catalog = Names::new(&NoRelations, 0);
    let planner = SqlToRel::new_with_options(&catalog, options());
    let planned = planner.sql_to_expr(expr, names, &mut PlannerContext::new());
    planned.map_err(|e| catalog.error(&e, source, |name| find_identifier(&original, name)))
}

/// The names under which a table's columns are found.
pub fn column_names(table: &str, schema: &Schema) -> DFSchema {
    let names = lower_case(schema);
    DFSchema::try_from_qualified_schema(TableReference::bare(table.to_ascii_lowercase()), &names)
        .expect("a table's columns have different names")
}

fn options() -> ParserOptions {
    ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_enable_ident_normalization(true)
        .with_collect_spans(true)
        .with_map_string_types_to_utf8view(false)
        .with_default_null_ordering(NullOrdering::NullsMin)
}

fn lower_case(schema: &Schema) -> SchemaRef {
    let fields = schema.columns.iter().map(|c| {
        let name = c.name.to_ascii_lowercase();
        Field::new(name, c.sql_type.arrow(), c.nullable)
    });
    Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

struct NoRelations;

impl Relations for NoRelations {
    fn relation(&self, parts: &[String]) -> Result<Relation, PlanError> {
        panic!("an expression over one table names no relation, but {parts:?}")
    }
}

/// The catalog as DataFusion asks for it, for one query.
struct Names<'a> {
    relations: &'a dyn Relations,
    options: ConfigOptions,
    spellings: RefCell<Spellings>,
    /// The first error of our own, which DataFusion would only carry as text.
    error: RefCell<Option<PlanError>>,
    depth: usize,
}

impl<'a> Names<'a> {
    fn new(relations: &'a dyn Relations, depth: usize) -> Names<'a> {
        Names {
            relations,
            options: ConfigOptions::default(),
            spellings: RefCell::default(),
            error: RefCell::default(),
            depth,
        }
    }

    fn plan(&self, mut query: ast::Query, source: Source<'_>) -> Result<LogicalPlan, PlanError> {
        let original = query.clone();
        desugar::query(&mut query, source, &mut self.spellings.borrow_mut())?;
        let planner = SqlToRel::new_with_options(self, options());
        let planned = planner.sql_statement_to_plan(ast::Statement::Query(Box::new(query)));
        planned.map_err(|e| self.error(&e, source, |name| find_identifier(&original, name)))
    }

    fn table(&self, name: &TableReference) -> Result<Arc<dyn TableSource>, PlanError> {
        let lower = name.to_vec();
        let spellings = self.spellings.borrow();
        let (typed, position) = spellings.tables.get(&lower).cloned().unwrap_or((lower, None));
        drop(spellings);
        let relation = self.relations.relation(&typed);
        match relation.map_err(|e| PlanError { position: e.position.or(position), ..e })? {
            Relation::Stored { object, name, schema } => {
                let names = lower_case(&schema);
                Ok(Arc::new(Stored { object, name, schema, names }))
            }
            Relation::View { name, query_text } => {
                let inside = |e: PlanError| PlanError { position, message: format!("in view {name}: {e}"), ..e };
                self.view(&query_text).map_err(inside)
            }
        }
    }

    fn view(&self, text: &str) -> Result<Arc<dyn TableSource>, PlanError> {
        if self.depth == VIEW_DEPTH_MAX {
            let message = format!("views stand on views more than {VIEW_DEPTH_MAX} deep");
            return Err(PlanError { kind: PlanErrorKind::InvalidValue, message, hint: None, position: None });
        }
        let parsed = Parser::new(&TidemillDialect).try_with_sql(text).and_then(|mut p| p.parse_query());
        let query = parsed.map_err(|e| error_of(PlanErrorKind::Syntax, e.to_string()))?;
        let source = Source(text);
        refuse::check(&query, source, Use::View)?;
        let names = Names::new(self.relations, self.depth + 1);
        let plan = names.plan(*query, source)?;
        let mut spellings = self.spellings.borrow_mut();
        for (lower, typed) in names.spellings.into_inner().aliases {
            spellings.aliases.entry(lower).or_insert(typed);
        }
        let names = Arc::clone(plan.schema().inner());
        Ok(Arc::new(View { plan, names }))
    }

    /// Our error behind DataFusion's, or DataFusion's in our words, placed where the name stands.
    fn error(
        &self,
        error: &DataFusionError,
        source: Source<'_>,
        find: impl Fn(&datafusion_common::Column) -> Option<sqlparser::tokenizer::Location>,
    ) -> PlanError {
        if let Some(ours) = self.error.borrow_mut().take() {
            return ours;
        }
        let place = |column| find(column).and_then(|at| source.offset(at));
        match error.find_root() {
            DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let names = valid_fields.iter().map(|c| c.name.as_str());
                    let near = functions::nearest(&field.name, names);
                    PlanError {
                        kind: PlanErrorKind::UnknownColumn,
                        message: format!("column {} does not exist", column_name(field)),
                        hint: near.map(|near| format!("did you mean {near}?")),
                        position: place(field),
                    }
                }
                SchemaError::AmbiguousReference { field } => PlanError {
                    kind: PlanErrorKind::Ambiguous,
                    message: format!("column {} is in several tables", field.name),
                    hint: Some("name the table: table.column".to_string()),
                    position: place(field),
                },
                other => error_of(PlanErrorKind::InvalidValue, other.to_string()),
            },
            DataFusionError::NotImplemented(message) => {
                error_of(PlanErrorKind::NotSupported, format!("not supported: {message}"))
            }
            other => error_of(PlanErrorKind::InvalidValue, plain(&other.strip_backtrace())),
        }
    }
}

fn column_name(column: &datafusion_common::Column) -> String {
    match &column.relation {
        Some(relation) => format!("{relation}.{}", column.name),
        None => column.name.clone(),
    }
}

fn plain(message: &str) -> String {
    message.trim_start_matches("Error during planning: ").to_string()
}

fn error_of(kind: PlanErrorKind, message: String) -> PlanError {
    PlanError { kind, message, hint: None, position: None }
}

fn find_identifier(
    within: &impl ast::Visit,
    column: &datafusion_common::Column,
) -> Option<sqlparser::tokenizer::Location> {
    let mut found = None;
    let _ = ast::visit_expressions(within, |expr| match place_in(expr, column) {
        Some(at) => {
            found = Some(at);
            std::ops::ControlFlow::Break(())
        }
        None => std::ops::ControlFlow::Continue(()),
    });
    found
}

/// Where an expression begins, if it is this column as typed.
fn place_in(expr: &ast::Expr, column: &datafusion_common::Column) -> Option<sqlparser::tokenizer::Location> {
    let parts: Vec<&ast::Ident> = match expr {
        ast::Expr::Identifier(ident) => vec![ident],
        ast::Expr::CompoundIdentifier(parts) => parts.iter().collect(),
        _ => return None,
    };
    let same = |ident: &ast::Ident, name: &str| ident.value.eq_ignore_ascii_case(name);
    let (last, qualifier) = parts.split_last()?;
    let table = column.relation.as_ref().map(|r| r.table());
    let qualified = match (qualifier.last(), table) {
        (Some(typed), Some(table)) => same(typed, table),
        (None, Some(_)) => false,
        _ => true,
    };
    (same(last, &column.name) && qualified).then(|| parts[0].span.start)
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        self.table(&name).map_err(|e| {
            let text = e.to_string();
            self.error.borrow_mut().get_or_insert(e);
            DataFusionError::Plan(text)
        })
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let aggregate = AGGREGATES.iter().any(|(known, ..)| *known == name);
        let name = functions::canonical_name(name).filter(|_| !aggregate)?;
        let signature = Signature::variadic_any(Volatility::Immutable);
        Some(Arc::new(ScalarUDF::from(Named { name, signature })))
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        let (name, ..) = AGGREGATES.iter().find(|(known, ..)| *known == name)?;
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Immutable);
        Some(Arc::new(AggregateUDF::from(Named { name, signature })))
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        vec![]
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

/// A call by name, of no type: conditions pass as truth values, and nothing else asks.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    name: &'static str,
    signature: Signature,
}

impl Named {
    fn never_runs<T>(&self) -> DataFusionResult<T> {
        Err(DataFusionError::Internal(format!("{} was not lowered", self.name)))
    }
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name, DataType::Boolean, true)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        self.never_runs()
    }
}

impl AggregateUDFImpl for Named {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        self.never_runs()
    }
}
