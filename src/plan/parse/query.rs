//! SELECT, INSERT, UPDATE, DELETE and EXPLAIN: read by sqlparser, refused by name.

use sqlparser::ast;
use sqlparser::parser::Parser;

use crate::plan::parse::create::create_view;
use crate::plan::parse::cursor::{Cursor, error};
use crate::plan::statement::{Explain, Insert, Name, Statement, Update};
use crate::plan::{PlanError, PlanErrorKind, wait};

/// A statement that does not begin with a word: a query in parentheses, or nonsense.
pub(super) fn select_or_refuse(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    if cursor.opens_parenthesis() {
        return Ok(Statement::Select(cursor.rest_as_query()?));
    }
    Err(cursor.expected_what("a statement"))
}

/// A query, or the wait that has the form of one.
pub(super) fn select(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    let query = cursor.rest_as_query()?;
    Ok(match wait::arguments(&query) {
        Some(arguments) => Statement::Wait { arguments },
        None => Statement::Select(query),
    })
}

pub(super) fn explain(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    cursor.expect_word("EXPLAIN")?;
    for option in ["ANALYZE", "VERBOSE", "FORMAT"] {
        if cursor.next_is(option) {
            return Err(cursor.refuse(format!("EXPLAIN {option} is not supported"), "use EXPLAIN"));
        }
    }
    let explain = if cursor.words(&["MATERIALIZED", "VIEW"]) || cursor.word("VIEW") {
        let name = cursor.local_name("a view's name")?;
        cursor.expect_end(&[])?;
        Explain::View(name)
    } else if cursor.word("CREATE") {
        let or_replace = cursor.words(&["OR", "REPLACE"]);
        Explain::Create(Box::new(create_view(cursor, or_replace)?))
    } else if ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.next_is(word)) || cursor.opens_parenthesis() {
        Explain::Query(cursor.rest_as_query()?)
    } else {
        return Err(cursor.expected(&["SELECT", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW"]));
    };
    Ok(Statement::Explain(Box::new(explain)))
}

pub(super) fn insert(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    let at = cursor.at();
    if cursor.next_is("REPLACE") {
        return Err(cursor.refuse("REPLACE is not supported", "use DELETE, then INSERT"));
    }
    let ast::Statement::Insert(insert) = cursor.rest_as(Parser::parse_statement)? else {
        return Err(error(PlanErrorKind::Syntax, "expected INSERT INTO table … VALUES or SELECT", at));
    };
    let refused = [
        (insert.ignore, "INSERT IGNORE"),
        (insert.on.is_some(), "ON DUPLICATE KEY UPDATE"),
        (insert.returning.is_some(), "RETURNING"),
        (insert.partitioned.is_some(), "PARTITION"),
        (!insert.assignments.is_empty(), "INSERT … SET"),
        (insert.priority.is_some(), "a priority of INSERT"),
        (insert.table_alias.is_some() || insert.insert_alias.is_some(), "an alias in INSERT"),
        (insert.overwrite || insert.has_table_keyword || insert.or.is_some(), "this form of INSERT"),
    ];
    refuse(&refused, at)?;
    let ast::TableObject::TableName(table) = &insert.table else {
        return Err(error(PlanErrorKind::NotSupported, "INSERT into anything but a table is not supported", at));
    };
    let Some(query) = insert.source else {
        return Err(error(PlanErrorKind::Syntax, "expected VALUES or SELECT after INSERT INTO table", at));
    };
    let columns = insert.columns.iter().map(|column| name_of(cursor, column)).collect::<Result<_, _>>()?;
    Ok(Statement::Insert(Box::new(Insert { table: name_of(cursor, table)?, columns, query: *query })))
}

pub(super) fn update(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    let at = cursor.at();
    let ast::Statement::Update(update) = cursor.rest_as(Parser::parse_statement)? else {
        return Err(error(PlanErrorKind::Syntax, "expected UPDATE table SET column = value", at));
    };
    let refused = [
        (update.from.is_some(), "UPDATE … FROM"),
        (update.returning.is_some(), "RETURNING"),
        (!update.order_by.is_empty(), "ORDER BY in UPDATE"),
        (update.limit.is_some(), "LIMIT in UPDATE"),
        (update.or.is_some(), "UPDATE OR"),
    ];
    refuse(&refused, at)?;
    let table = one_table(cursor, std::slice::from_ref(&update.table), "UPDATE", at)?;
    let mut assignments = vec![];
    for assignment in update.assignments {
        let ast::AssignmentTarget::ColumnName(column) = &assignment.target else {
            return Err(error(PlanErrorKind::NotSupported, "assigning to a tuple is not supported", at));
        };
        assignments.push((name_of(cursor, column)?, assignment.value));
    }
    Ok(Statement::Update(Box::new(Update { table, assignments, predicate: update.selection })))
}

pub(super) fn delete(cursor: &mut Cursor) -> Result<Statement, PlanError> {
    let at = cursor.at();
    let ast::Statement::Delete(delete) = cursor.rest_as(Parser::parse_statement)? else {
        return Err(error(PlanErrorKind::Syntax, "expected DELETE FROM table", at));
    };
    let refused = [
        (!delete.tables.is_empty(), "DELETE of several tables"),
        (delete.using.is_some(), "DELETE … USING"),
        (delete.returning.is_some(), "RETURNING"),
        (!delete.order_by.is_empty(), "ORDER BY in DELETE"),
        (delete.limit.is_some(), "LIMIT in DELETE"),
    ];
    refuse(&refused, at)?;
    let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
    Ok(Statement::Delete { table: one_table(cursor, from, "DELETE", at)?, predicate: delete.selection })
}

fn refuse(parts: &[(bool, &str)], at: usize) -> Result<(), PlanError> {
    match parts.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(error(PlanErrorKind::NotSupported, format!("{what} is not supported"), at)),
        None => Ok(()),
    }
}

/// The one plain table of an UPDATE or DELETE.
fn one_table(cursor: &Cursor, from: &[ast::TableWithJoins], what: &str, at: usize) -> Result<Name, PlanError> {
    match from {
        [ast::TableWithJoins { relation: ast::TableFactor::Table { name, alias: None, args: None, .. }, joins }]
            if joins.is_empty() =>
        {
            name_of(cursor, name)
        }
        _ => {
            let message = format!("{what} takes one table, without a join or an alias");
            Err(error(PlanErrorKind::NotSupported, message, at))
        }
    }
}

fn name_of(cursor: &Cursor, name: &ast::ObjectName) -> Result<Name, PlanError> {
    let identifiers: Option<Vec<&ast::Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match identifiers.as_deref() {
        Some([first, rest @ ..]) if rest.len() < 3 => {
            let parts = std::iter::once(first).chain(rest).map(|identifier| identifier.value.clone()).collect();
            Ok(Name { parts, at: cursor.offset_of(first) })
        }
        _ => Err(error(PlanErrorKind::Syntax, format!("`{name}` is no name of one to three parts"), 0)),
    }
}
