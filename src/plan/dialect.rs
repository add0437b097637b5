//! The SQL dialect of every statement and query: MySQL's, with double quotes for identifiers too.
//!
//! Backticks and double quotes quote identifiers; strings have single quotes and MySQL's backslash escapes; comments
//! are `-- `, `#` and `/* */`. `$1` and `?` are parameters.

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, Expr};
use sqlparser::dialect::{Dialect, MySqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

#[derive(Clone, Copy, Debug, Default)]
pub struct TidemillDialect;

const MYSQL: MySqlDialect = MySqlDialect {};

impl Dialect for TidemillDialect {
    /// The parser asks in places whether the dialect is MySQL's: it is.
    fn dialect(&self) -> TypeId {
        TypeId::of::<MySqlDialect>()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || !ch.is_ascii()
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.is_identifier_start(ch) || ch.is_ascii_digit() || ch == '$'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`' || ch == '"'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    /// `DIV` and `MOD` bind as `*` does; MySQL's own dialect in the parser takes all that follows as the right side.
    fn parse_infix(&self, parser: &mut Parser, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let op = multiplicative(&parser.peek_token().token)?;
        parser.next_token();
        let left = Box::new(left.clone());
        let right = parser.parse_subexpr(precedence).map(Box::new);
        Some(right.map(|right| Expr::BinaryOp { left, op, right }))
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        multiplicative(&parser.peek_token().token)?;
        Some(Ok(self.prec_value(Precedence::MulDivModOp)))
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        MYSQL.is_table_factor_alias(explicit, keyword, parser)
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn supports_string_literal_concatenation(&self) -> bool {
        true
    }

    /// `\%` and `\_` stay as they are: they mean something to LIKE.
    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_multiline_comment_hints(&self) -> bool {
        true
    }

    fn require_interval_qualifier(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }

    fn supports_insert_set(&self) -> bool {
        true
    }

    fn requires_single_line_comment_whitespace(&self) -> bool {
        true
    }

    fn supports_set_names(&self) -> bool {
        true
    }

    fn supports_comma_separated_set_assignments(&self) -> bool {
        true
    }

    fn supports_data_type_signed_suffix(&self) -> bool {
        true
    }

    fn supports_cross_join_constraint(&self) -> bool {
        true
    }

    fn supports_double_ampersand_operator(&self) -> bool {
        true
    }

    /// `GROUP BY … WITH ROLLUP` is read, to be refused by its name.
    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_key_column_option(&self) -> bool {
        true
    }
}

fn multiplicative(token: &Token) -> Option<BinaryOperator> {
    let Token::Word(word) = token else { return None };
    match (word.quote_style, word.value.to_ascii_uppercase().as_str()) {
        (None, "DIV") => Some(BinaryOperator::MyIntegerDivide),
        (None, "MOD") => Some(BinaryOperator::Modulo),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expression(text: &str) -> String {
        let parser = Parser::new(&TidemillDialect).try_with_sql(text);
        parser.and_then(|mut p| p.parse_expr()).map_or_else(|e| e.to_string(), |e| e.to_string())
    }

    /// Every operation in brackets, so that the precedence shows.
    fn bracketed(expr: &Expr) -> String {
        match expr {
            Expr::BinaryOp { left, op, right } => format!("({} {op} {})", bracketed(left), bracketed(right)),
            other => other.to_string(),
        }
    }

    #[test]
    fn both_quotes_quote_identifiers_and_strings_have_escapes() {
        assert_eq!(expression(r#"`a`."B" = 'it\'s'"#), r#"`a`."B" = 'it''s'"#);
        assert_eq!(expression("a # comment\n + 1 -- more"), "a + 1");
        assert_eq!(expression("f($1, ?)"), "f($1, ?)");
        assert_eq!(expression("a$1"), "a$1");
    }

    #[test]
    fn div_and_mod_bind_as_multiplication_does() {
        let parse = |text| Parser::new(&TidemillDialect).try_with_sql(text).unwrap().parse_expr().unwrap();
        assert_eq!(bracketed(&parse("a DIV 2 + 1")), "((a DIV 2) + 1)");
        assert_eq!(bracketed(&parse("1 + a mod 2")), "(1 + (a % 2))");
        assert_eq!(expression("MOD(a, 2)"), "MOD(a, 2)");
    }
}
