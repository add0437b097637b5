//! One client's conversation: statements in, rows and tags out.

use std::pin::Pin;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::Stream;
use tokio::sync::OwnedMutexGuard;

use crate::engine::Core;
use crate::engine::ddl::{Created, option_is_set, tag};
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::read::ReadPoint;
use crate::engine::replay::REPLAY_COLUMNS;
use crate::engine::{show, subscribe};
use crate::plan::explain::explain;
use crate::plan::foreign::Foreign;
use crate::plan::functions::types::LONGTEXT;
use crate::plan::lower::{Lowered, Settings, lower};
use crate::plan::parameters;
use crate::plan::parse::parse;
use crate::plan::refuse::Use;
use crate::plan::relations::CatalogRelations;
use crate::plan::statement::{Explain, ObjectKind, Statement};
use crate::plan::wait::{self, Wait};
use crate::row::ObjectId;
use crate::row::schema::Column;
use crate::row::types::SqlType;

/// What clients that speak PostgreSQL's protocol are told.
pub const SERVER_VERSION: &str = concat!("15.0 (Tidemill ", env!("CARGO_PKG_VERSION"), ")");

/// A client's state: the open transaction block and its notices.
pub struct Session {
    core: Arc<Core>,
    block: Option<Block>,
    notices: Vec<String>,
}

/// An open transaction block: all its reads see one `Ts`, all its local writes become one tick.
#[derive(Default)]
pub(super) struct Block {
    failed: bool,
    pub(super) point: Option<ReadPoint>,
    /// Held from the first write of the block to its end.
    pub(super) writer: Option<OwnedMutexGuard<()>>,
}

/// A parsed and described statement, ready to run with parameters.
#[derive(Clone)]
pub struct Prepared {
    pub text: String,
    pub statement: Statement,
    /// Types of `$1`, `$2`, …
    pub parameters: Vec<SqlType>,
    /// The columns of the answer; empty when it has none.
    pub columns: Vec<Column>,
}

/// A planned query and what it reads besides what the catalog knows.
struct Reads {
    lowered: Lowered,
    foreign: Vec<Foreign>,
    notices: Vec<String>,
}

/// Rows of an answer, as they come; dropping it ends the work.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, EngineError>> + Send>>;

pub enum Outcome {
    /// The command tag, as PostgreSQL words it: `CREATE MATERIALIZED VIEW`, `INSERT 0 3`.
    Done { tag: String },
    /// Rows, as they come; SUBSCRIBE's never end by themselves. Dropping the stream cancels the work.
    Rows { columns: Vec<Column>, rows: RowStream },
}

impl Session {
    pub(super) fn new(core: Arc<Core>) -> Session {
        Session { core, block: None, notices: Vec::new() }
    }

    /// Parses a text of one or more statements (simple protocol); an empty text gives none.
    pub fn parse(&self, text: &str) -> Result<Vec<(Statement, String)>, EngineError> {
        let statements = parse(text)?;
        Ok(statements.into_iter().map(|(statement, range)| (statement, text[range].to_string())).collect())
    }

    /// Parses and describes one statement (extended protocol).
    pub async fn prepare(&mut self, text: &str) -> Result<Prepared, EngineError> {
        let mut statements = self.parse(text)?;
        if statements.len() > 1 {
            let message = "several statements cannot be prepared at once";
            return Err(EngineError::new(ErrorKind::Syntax, message).hint("send them one by one"));
        }
        let Some((statement, text)) = statements.pop() else {
            return Err(EngineError::new(ErrorKind::Syntax, "an empty statement cannot be prepared"));
        };
        self.describe(statement, text).await
    }

    /// The parameters and columns of a statement.
    pub async fn describe(&self, statement: Statement, text: String) -> Result<Prepared, EngineError> {
        let (parameters, columns) = match &statement {
            Statement::Select(query) => {
                let Reads { lowered, .. } = self.lower(query, &text).await?;
                let visible = lowered.plan.schema.columns.len() - lowered.hidden;
                (lowered.parameters, lowered.plan.schema.columns[..visible].to_vec())
            }
            Statement::Wait { arguments } => {
                (vec![LONGTEXT; parameters::count(arguments)], show::text_columns(&[wait::NAME]))
            }
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete { .. } => {
                (self.core.write_parameters(&statement, &text)?, vec![])
            }
            Statement::Show(what) => (vec![], show::columns_of(what)),
            Statement::Explain(_) => (vec![], show::text_columns(&["plan"])),
            Statement::ValidateConnection { .. } => (vec![], show::text_columns(&VALIDATE_COLUMNS)),
            Statement::ReplayQuarantine { .. } => (vec![], show::text_columns(&REPLAY_COLUMNS)),
            Statement::Subscribe { name, .. } => {
                let object = self.core.resolve_kind(name, ObjectKind::MaterializedView)?;
                (vec![], subscribe::columns(&self.core.relation(object.id()).0))
            }
            _ => (vec![], vec![]),
        };
        Ok(Prepared { text, statement, parameters, columns })
    }

    /// Runs it; `parameters` in text form, `None` for NULL.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        parameters: &[Option<String>],
    ) -> Result<Outcome, EngineError> {
        let ends_block = matches!(prepared.statement, Statement::Commit | Statement::Rollback);
        if self.block.as_ref().is_some_and(|block| block.failed) && !ends_block {
            let message = "the transaction block has failed; statements are ignored until its end";
            return Err(EngineError::new(ErrorKind::InFailedTransaction, message).hint("ROLLBACK"));
        }
        let result = self.run(prepared, parameters).await;
        if result.is_err() {
            self.fail_transaction();
        }
        result
    }

    /// The statement ended outside of the session: an open block has failed.
    pub fn fail_transaction(&mut self) {
        if let Some(block) = &mut self.block {
            block.failed = true;
            block.point = None;
            block.writer = None;
        }
    }

    /// Notices since the last call, in order.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// 'I' idle, 'T' in a block, 'E' in a failed block.
    pub fn transaction_status(&self) -> u8 {
        match &self.block {
            None => b'I',
            Some(block) if block.failed => b'E',
            Some(_) => b'T',
        }
    }

    /// Names for completion and for clients.
    pub fn names(&self) -> Vec<String> {
        self.core.lock_catalog().names()
    }

    async fn run(&mut self, prepared: &Prepared, parameters: &[Option<String>]) -> Result<Outcome, EngineError> {
        let core = Arc::clone(&self.core);
        let text = &prepared.text;
        match &prepared.statement {
            Statement::Select(query) => {
                let query = parameters::bind(query, &prepared.parameters, parameters)?;
                let reads = self.lower(&query, text).await?;
                self.select(reads).await
            }
            Statement::Wait { arguments } => {
                let wait = wait::read(&parameters::bind(arguments, &prepared.parameters, parameters)?)?;
                self.wait(&wait).await
            }
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete { .. } => {
                let tag = self.write(&prepared.statement, text, &prepared.parameters, parameters).await?;
                Ok(Outcome::Done { tag })
            }
            Statement::Show(what) => core.show(what).await,
            Statement::Explain(what) => self.explain(what, text).await,
            Statement::Subscribe { name, snapshot } => {
                let view = core.resolve_kind(name, ObjectKind::MaterializedView)?;
                let (schema, _) = core.relation(view.id());
                let columns = subscribe::columns(&schema);
                Ok(Outcome::Rows { columns, rows: core.subscribe(view.id(), schema, *snapshot).await? })
            }
            Statement::ValidateConnection { name } => {
                let rows = core.validate(name).await?;
                Ok(show::table(&VALIDATE_COLUMNS, rows))
            }
            Statement::ReplayQuarantine { source, predicate } => {
                self.outside_of_block()?;
                let rows = core.replay_quarantine(source, predicate.as_ref(), text).await?;
                Ok(show::table(&REPLAY_COLUMNS, rows))
            }
            Statement::RefreshSource { name } => {
                core.refresh_source(name).await?;
                Ok(done("REFRESH SOURCE"))
            }
            Statement::Begin => self.begin(),
            Statement::Commit => self.commit().await,
            Statement::Rollback => {
                self.block = None;
                Ok(done("ROLLBACK"))
            }
            Statement::Set { name, value } => {
                tracing::debug!(name, value, "a client's setting is accepted without effect");
                Ok(done("SET"))
            }
            Statement::KillJob { job } => {
                let found = core.jobs.get(*job).ok_or_else(|| {
                    EngineError::new(ErrorKind::UnknownObject, format!("there is no job {job}")).hint("SHOW JOBS")
                })?;
                found.kill();
                Ok(done("KILL JOB"))
            }
            ddl => self.ddl(ddl).await,
        }
    }

    /// Plans a query; tables that no source follows are asked of their connections as their names turn up.
    async fn lower(&self, query: &sqlparser::ast::Query, text: &str) -> Result<Reads, EngineError> {
        let settings = Settings { time_zone: "+00:00".to_string() };
        let (mut foreign, mut notices) = (Vec::new(), Vec::new());
        loop {
            let (lowered, wanted) = {
                let catalog = self.core.lock_catalog();
                let relations = CatalogRelations::new(&catalog).with(&foreign);
                (lower(query, text, Use::Select, &relations, &settings), relations.wanted())
            };
            let unknown = match lowered {
                Ok(lowered) => return Ok(Reads { lowered, foreign, notices }),
                Err(error) => error,
            };
            let Some((connection, name)) = wanted.into_iter().next() else { return Err(unknown.into()) };
            // No object of the catalog gets so high an id.
            let object = ObjectId(u64::MAX - foreign.len() as u64);
            let Some((found, left_out)) = self.core.foreign(connection, name, object).await? else {
                return Err(unknown.into());
            };
            foreign.push(found);
            notices.extend(left_out);
        }
    }

    async fn select(&mut self, Reads { lowered, foreign, notices }: Reads) -> Result<Outcome, EngineError> {
        self.notices.extend(notices);
        let visible = lowered.plan.schema.columns.len() - lowered.hidden;
        let columns = lowered.plan.schema.columns[..visible].to_vec();
        let core = Arc::clone(&self.core);
        let rows = match &mut self.block {
            Some(block) => {
                if block.point.is_none() {
                    block.point = Some(core.read_point().await?);
                }
                core.select(lowered, &foreign, block.point.as_ref().expect("set above")).await?
            }
            None => core.select(lowered, &foreign, &core.read_point().await?).await?,
        };
        Ok(Outcome::Rows { columns, rows })
    }

    async fn wait(&self, wait: &Wait) -> Result<Outcome, EngineError> {
        if self.block.as_ref().is_some_and(|block| block.point.is_some()) {
            let message = "the transaction block reads at the time of its first statement, which no wait moves";
            return Err(
                EngineError::new(ErrorKind::NotSupported, message).hint("wait before BEGIN, or first in the block")
            );
        }
        let reached = self.core.wait_for_position(wait).await?;
        Ok(show::table(&[wait::NAME], vec![vec![Some(reached)]]))
    }

    async fn explain(&mut self, what: &Explain, text: &str) -> Result<Outcome, EngineError> {
        let plan = match what {
            Explain::Query(query) => explain(&self.lower(query, text).await?.lowered.plan),
            Explain::View(name) => {
                let object = self.core.resolve(name)?;
                self.core.explain_view(&object)?
            }
            Explain::Create(create) => explain(&self.core.try_view(create)?.plan),
        };
        Ok(show::lines("plan", &plan))
    }

    fn begin(&mut self) -> Result<Outcome, EngineError> {
        if self.block.is_some() {
            self.notices.push("a transaction block is already open".to_string());
        }
        self.block.get_or_insert_with(Block::default);
        Ok(done("BEGIN"))
    }

    async fn commit(&mut self) -> Result<Outcome, EngineError> {
        let Some(block) = self.block.take() else {
            self.notices.push("there is no open transaction block".to_string());
            return Ok(done("COMMIT"));
        };
        if block.failed {
            return Ok(done("ROLLBACK"));
        }
        if let Some(point) = block.point
            && !point.pending.is_empty()
        {
            self.core.write_tick(point.pending).await?;
        }
        Ok(done("COMMIT"))
    }

    fn outside_of_block(&self) -> Result<(), EngineError> {
        if self.block.is_some() {
            let message = "this statement cannot run in a transaction block";
            return Err(EngineError::new(ErrorKind::NotSupported, message).hint("COMMIT first"));
        }
        Ok(())
    }

    async fn ddl(&mut self, statement: &Statement) -> Result<Outcome, EngineError> {
        self.outside_of_block()?;
        let core = Arc::clone(&self.core);
        let created = {
            let _one_at_a_time = core.ddl.lock().await;
            self.run_ddl(statement).await?
        };
        self.notices.extend(created.notices);
        if let Statement::CreateView(create) = statement
            && option_is_set(create, "wait")
            && let Some(job) = created.job
        {
            core.wait_for(&job).await?;
        }
        Ok(done(&tag(statement)))
    }

    async fn run_ddl(&self, statement: &Statement) -> Result<Created, EngineError> {
        let core = &self.core;
        match statement {
            Statement::CreateSecret { name, if_not_exists, from } => {
                core.create_secret(name, *if_not_exists, from.clone())
            }
            Statement::CreateConnection { name, if_not_exists, to, options } => {
                core.create_connection(name, *if_not_exists, *to, options)
            }
            Statement::CreateSource(create) => core.create_source(create).await,
            Statement::CreateTable { name, if_not_exists, schema } => {
                core.create_table(name, *if_not_exists, schema).await
            }
            Statement::CreateView(create) => core.create_view(create).await,
            Statement::AlterSource { name, change } => core.alter_source(name, *change).await,
            Statement::Drop { kind, name, if_exists, cascade, target } => {
                core.drop_named(*kind, name, *if_exists, *cascade, *target).await
            }
            other => unreachable!("run() handles {other:?}"),
        }
    }

    /// A write in the open block, or in a block of its own.
    async fn write(
        &mut self,
        statement: &Statement,
        text: &str,
        types: &[SqlType],
        parameters: &[Option<String>],
    ) -> Result<String, EngineError> {
        let core = Arc::clone(&self.core);
        let mut own = Block::default();
        let in_block = self.block.is_some();
        let block = self.block.as_mut().unwrap_or(&mut own);
        let statement = parameters::bind_write(statement, types, parameters)?;
        let tag = core.write_statement(&statement, text, block).await?;
        if !in_block && let Some(point) = own.point.take() {
            core.write_tick(point.pending).await?;
        }
        Ok(tag)
    }
}

const VALIDATE_COLUMNS: [&str; 5] = ["setting", "have", "need", "ok", "statement_to_paste"];

fn done(tag: &str) -> Outcome {
    Outcome::Done { tag: tag.to_string() }
}
