//! Which table of a target a view is written to, and under which name it is filled.

use crate::sinks::SinkView;
use crate::sinks::wide::inspect;
use crate::sinks::wide::layout::{self, Layout};
use crate::target::error::TargetError;
use crate::target::ledger::{LedgerRow, SEMANTICS_VERSION, State};
use crate::target::{Target, dialect};

/// A table as it is written to now: under the view's name, or under the one it is filled under.
#[derive(Clone)]
pub struct Table {
    pub name: Vec<String>,
    pub layout: Layout,
}

/// Where a view is loaded to, and if the table is to be created its comment. A new table is first filled under another
/// name; `row` is the ledger's of this view and table.
pub async fn place(
    target: &mut dyn Target,
    spec: &SinkView,
    row: Option<&LedgerRow>,
) -> Result<(Table, Option<Option<String>>), TargetError> {
    let names = spec.table.iter().chain(spec.schema.columns.iter().map(|c| &c.name));
    if let Some(reason) = names.filter_map(|name| dialect::bad_name(name)).next() {
        return Err(TargetError::Refused(reason));
    }
    if inspect::exists(target, &spec.table).await? {
        if row.is_none() && !spec.reconcile && inspect::has_rows(target, &spec.table).await? {
            let path = dialect::path(&spec.table);
            let message = format!("{path} has rows that are not this view's: add EXISTING ROWS RECONCILE, or empty it");
            return Err(TargetError::Refused(message));
        }
        let layout = inspect::layout(target, &spec.table, &spec.schema).await?;
        return Ok((Table { name: spec.table.clone(), layout }, None));
    }
    let layout = Layout::of_new_table(target.dialect(), &spec.schema);
    if target.dialect().is_sqlite() {
        return Ok((Table { name: spec.table.clone(), layout }, Some(spec.comment.clone())));
    }
    if let Some(row) = row {
        let started = shadow(&spec.table, row.generation);
        if row.state == State::Loading && inspect::exists(target, &started).await? {
            if row.plan_hash == spec.plan_hash && row.semantics == SEMANTICS_VERSION {
                return Ok((Table { name: started, layout }, None));
            }
            target.execute(format!("DROP TABLE {}", dialect::path(&started))).await?;
        }
    }
    Ok((Table { name: shadow(&spec.table, row.map_or(1, |r| r.generation + 1)), layout }, Some(spec.comment.clone())))
}

/// The name under which a table is filled: the view's table's, shortened at its end to what a name may have.
pub fn shadow(table: &[String], generation: u64) -> Vec<String> {
    let mut path = table.to_vec();
    let last = path.last_mut().expect("a table has a name");
    let end = format!("_g{generation}");
    let room = dialect::NAME_CHARS_MAX - "_tidemill_".len() - end.len();
    let stem = match last.chars().count() <= room {
        true => last.clone(),
        // A digest keeps apart what shortening would make one.
        false => {
            let digest = layout::hidden_key(last.as_bytes());
            let digest: String = digest[..6].iter().map(|b| format!("{b:02x}")).collect();
            format!("{}{digest}", last.chars().take(room - digest.len()).collect::<String>())
        }
    };
    *last = format!("_tidemill_{stem}{end}");
    path
}
