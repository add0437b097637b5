//! A place in one statement: words and literals by our own rules, queries by sqlparser's.
//!
//! Keywords are matched as words without regard to case and are not reserved: a quoted word is never a keyword. No
//! error repeats the content of a string literal, because it may be a password.

use std::ops::Range;

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, Tokenizer, TokenizerError};

use crate::catalog::names::nearest;
use crate::plan::statement::Name;
use crate::plan::{PlanError, PlanErrorKind};

/// How deep expressions and queries may nest: the parser recurses, and the stack of a server thread is small.
const NESTING_MAX: usize = 50;

/// Words that begin a clause of a query, for the hint that one of them is misspelt.
const QUERY_WORDS: &[&str] = &[
    "SELECT", "DISTINCT", "FROM", "WHERE", "GROUP", "BY", "HAVING", "ORDER", "LIMIT", "JOIN", "INNER", "LEFT", "CROSS",
    "ON", "USING", "UNION", "VALUES", "INTO", "SET", "BETWEEN",
];

pub(super) struct Cursor<'a> {
    text: &'a str,
    parser: Parser<'a>,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Result<Cursor<'a>, PlanError> {
        let parser = Parser::new(&super::DIALECT).with_recursion_limit(NESTING_MAX);
        let tokens = Tokenizer::new(&super::DIALECT, text).tokenize_with_location();
        let tokens = tokens.map_err(|e| tokenizer_error(text, e))?;
        Ok(Cursor { text, parser: parser.with_tokens_with_locations(tokens) })
    }

    /// The byte offset of the next token.
    pub fn at(&self) -> usize {
        offset(self.text, self.parser.peek_token_ref().span.start)
    }

    /// Consumes the word if it comes next.
    pub fn word(&mut self, word: &str) -> bool {
        let found = is_word(&self.parser.peek_token_ref().token, word);
        if found {
            self.parser.advance_token();
        }
        found
    }

    /// Consumes all of the words or none.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(i, word)| is_word(&self.parser.peek_nth_token_ref(i).token, word));
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    pub fn opens_parenthesis(&self) -> bool {
        self.next_is_symbol(&Token::LParen)
    }

    pub fn next_is_symbol(&self, symbol: &Token) -> bool {
        self.parser.peek_token_ref().token == *symbol
    }

    pub fn next_is(&self, word: &str) -> bool {
        is_word(&self.parser.peek_token_ref().token, word)
    }

    pub fn expect_word(&mut self, word: &str) -> Result<(), PlanError> {
        if self.word(word) { Ok(()) } else { Err(self.expected(&[word])) }
    }

    pub fn expect_words(&mut self, words: &[&str]) -> Result<(), PlanError> {
        words.iter().try_for_each(|word| self.expect_word(word))
    }

    /// Consumes one of the words and says which.
    pub fn expect_one_of<'w>(&mut self, words: &[&'w str]) -> Result<&'w str, PlanError> {
        words.iter().find(|word| self.word(word)).copied().ok_or_else(|| self.expected(words))
    }

    pub fn symbol(&mut self, symbol: &Token) -> bool {
        self.parser.consume_token(symbol)
    }

    pub fn expect_symbol(&mut self, symbol: &Token) -> Result<(), PlanError> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.expected_what(&format!("`{symbol}`"))) }
    }

    /// The next word's text, which stays unread.
    pub fn peek_word(&self) -> Option<&str> {
        match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
            _ => None,
        }
    }

    /// An identifier, quoted or not.
    pub fn identifier(&mut self, what: &str) -> Result<String, PlanError> {
        let Token::Word(word) = &self.parser.peek_token_ref().token else {
            return Err(self.expected_what(what));
        };
        let value = word.value.clone();
        if value.is_empty() {
            return Err(error(PlanErrorKind::Syntax, format!("expected {what}, found an empty name"), self.at()));
        }
        self.parser.advance_token();
        Ok(value)
    }

    /// `a`, `a.b` or `a.b.c`.
    pub fn name(&mut self, what: &str) -> Result<Name, PlanError> {
        let at = self.at();
        let mut parts = vec![self.identifier(what)?];
        while self.symbol(&Token::Period) {
            let star = self.symbol(&Token::Mul);
            parts.push(if star { "*".to_string() } else { self.identifier(what)? });
        }
        if parts.len() > 3 {
            let message = format!("a name has at most three parts (connection.database.table), found {}", parts.len());
            return Err(error(PlanErrorKind::Syntax, message, at));
        }
        Ok(Name { parts, at })
    }

    /// A name of one part.
    pub fn local_name(&mut self, what: &str) -> Result<Name, PlanError> {
        let name = self.name(what)?;
        if name.parts.len() > 1 {
            let message = format!("{what} has one part, found `{name}`");
            let mut error = error(PlanErrorKind::Syntax, message, name.at);
            error.hint = name.parts.last().map(|last| format!("use `{last}`; only upstream tables have longer names"));
            return Err(error);
        }
        Ok(name)
    }

    pub fn text(&mut self, what: &str) -> Result<String, PlanError> {
        let Token::SingleQuotedString(text) = &self.parser.peek_token_ref().token else {
            return Err(self.expected_what(&format!("{what} in single quotes")));
        };
        let text = text.clone();
        self.parser.advance_token();
        Ok(text)
    }

    pub fn next_is_text(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_))
    }

    pub fn number(&mut self, what: &str) -> Result<u64, PlanError> {
        let value = match &self.parser.peek_token_ref().token {
            Token::Number(digits, _) => digits.parse::<u64>().ok(),
            _ => None,
        };
        let value = value.ok_or_else(|| self.expected_what(&format!("{what} (a whole number)")))?;
        self.parser.advance_token();
        Ok(value)
    }

    /// A number from a range, both ends included.
    pub fn number_in(&mut self, what: &str, range: Range<u64>) -> Result<u64, PlanError> {
        let at = self.at();
        let value = self.number(what)?;
        if range.contains(&value) {
            return Ok(value);
        }
        let message = format!("{what} must be {} to {}, found {value}", range.start, range.end - 1);
        Err(error(PlanErrorKind::InvalidValue, message, at))
    }

    /// `(item, item, …)` with at least one item.
    pub fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Cursor<'a>) -> Result<T, PlanError>,
    ) -> Result<Vec<T>, PlanError> {
        self.expect_symbol(&Token::LParen)?;
        let mut items = vec![item(self)?];
        while self.symbol(&Token::Comma) {
            items.push(item(self)?);
        }
        if !self.symbol(&Token::RParen) {
            return Err(self.expected_what("`,` or `)`"));
        }
        Ok(items)
    }

    pub fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    pub fn expect_end(&self, clauses: &[&str]) -> Result<(), PlanError> {
        if self.at_end() {
            return Ok(());
        }
        let mut expected = clauses.to_vec();
        expected.push("the end of the statement");
        Err(self.expected(&expected))
    }

    /// Everything from the next token to the end of the statement, and where it begins.
    pub fn rest(&mut self) -> (&'a str, usize) {
        let at = self.at();
        while !self.at_end() {
            self.parser.advance_token();
        }
        (&self.text[at..], at)
    }

    /// What sqlparser makes of the rest of the statement.
    pub fn rest_as<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Result<T, PlanError> {
        let parsed = parse(&mut self.parser).map_err(|e| self.parser_error(e))?;
        if !self.at_end() {
            let mut error = self.expected(&["the end of the statement"]);
            error.hint = self.misspelt_clause(self.at());
            return Err(error);
        }
        Ok(parsed)
    }

    pub fn rest_as_query(&mut self) -> Result<Box<ast::Query>, PlanError> {
        self.rest_as(|parser| parser.parse_query())
    }

    /// Consumes `IF EXISTS` or `IF NOT EXISTS`. A name may be `if`, so only what comes after it tells a slip.
    pub fn condition(&mut self, words: &[&str]) -> Result<bool, PlanError> {
        if self.words(words) {
            return Ok(true);
        }
        let after = match &self.parser.peek_nth_token_ref(1).token {
            Token::Word(word) => word.value.as_str(),
            _ => "",
        };
        if self.next_is("IF") && nearest(after, ["NOT", "EXISTS"]).is_some() {
            let message = format!("expected {}, found `IF {after}`", words.join(" "));
            let mut error = error(PlanErrorKind::Syntax, message, self.at());
            error.hint = Some("a name that begins so is written in backticks".to_string());
            return Err(error);
        }
        Ok(false)
    }

    /// `expected A, B or C, found D`, with a hint where D is nearly one of them.
    pub fn expected(&self, words: &[&str]) -> PlanError {
        let mut error = self.expected_what(&any_of(words));
        error.hint = self.meant(words);
        error
    }

    /// The phrase that the next word was probably meant to begin.
    pub fn meant(&self, phrases: &[&str]) -> Option<String> {
        let found = self.peek_word()?;
        let begins = |phrase: &&str, word: &str| phrase.split(' ').next() == Some(word);
        let word = nearest(found, phrases.iter().filter_map(|phrase| phrase.split(' ').next()))?;
        let phrase = phrases.iter().find(|phrase| begins(phrase, word))?;
        (!word.eq_ignore_ascii_case(found)).then(|| format!("did you mean {phrase}?"))
    }

    pub fn expected_what(&self, what: &str) -> PlanError {
        let token = &self.parser.peek_token_ref().token;
        error(PlanErrorKind::Syntax, format!("expected {what}, found {}", describe(token)), self.at())
    }

    /// A refusal of what comes next.
    pub fn refuse(&self, message: impl Into<String>, hint: impl Into<String>) -> PlanError {
        PlanError { hint: Some(hint.into()), ..error(PlanErrorKind::NotSupported, message, self.at()) }
    }

    /// The offset of an identifier of a parsed query; its beginning if the parser lost it.
    pub fn offset_of(&self, identifier: &ast::Ident) -> usize {
        match identifier.span.start {
            Location { line: 0, .. } => 0,
            start => offset(self.text, start),
        }
    }

    /// sqlparser says where only at the end of its message.
    fn parser_error(&self, parser_error: ParserError) -> PlanError {
        let message = match parser_error {
            ParserError::RecursionLimitExceeded => {
                let message = format!("the statement nests deeper than {NESTING_MAX} levels");
                return error(PlanErrorKind::NotSupported, message, self.at());
            }
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        };
        let (what, place) = match message.rsplit_once(" at Line: ") {
            Some((what, place)) => (what, location(place)),
            None => (message.as_str(), None),
        };
        let Some((expected, found)) = what.split_once(", found: ") else {
            let at = place.map_or(self.text.len(), |place| offset(self.text, place));
            return error(PlanErrorKind::Syntax, what, at);
        };
        let expected = expected.trim_start_matches("Expected").trim_start_matches(':').trim();
        let (at, found) = self.found_token(place, found);
        let message = format!("expected {expected}, found {found}");
        PlanError { hint: self.misspelt_clause(at), ..error(PlanErrorKind::Syntax, message, at) }
    }

    /// The token that sqlparser stumbled over: at the place it gives, or just before it.
    fn found_token(&self, place: Option<Location>, found: &str) -> (usize, String) {
        let tokens = Tokenizer::new(&super::DIALECT, self.text).tokenize_with_location().unwrap_or_default();
        let before = tokens.iter().filter(|token| place.is_some_and(|place| token.span.start <= place));
        let before = before.filter(|token| !matches!(token.token, Token::Whitespace(_)));
        match before.rev().take(2).find(|token| token.token.to_string() == found) {
            Some(token) => (offset(self.text, token.span.start), describe(&token.token)),
            None => (self.text.len(), describe(&Token::EOF)),
        }
    }

    /// Looks at the words around an error: `FORM t` is read as an alias, and the parser stumbles only over `t`.
    fn misspelt_clause(&self, at: usize) -> Option<String> {
        let end = self.text[at..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(self.text.len(), |n| at + n);
        let before = self.text[..at].split_whitespace().next_back().unwrap_or("");
        [&self.text[at..end], before].into_iter().find_map(|found| {
            let clause = nearest(found, QUERY_WORDS.iter().copied())?;
            let plain = clause.eq_ignore_ascii_case(found) || found.len() < 4;
            (!plain).then(|| format!("did you mean {clause} instead of {found}?"))
        })
    }
}

/// Where the statements of a script lie, without their semicolons.
pub(super) fn split(text: &str) -> Result<Vec<Range<usize>>, PlanError> {
    let tokens = Tokenizer::new(&super::DIALECT, text).tokenize_with_location();
    let mut ranges = Vec::new();
    let mut current: Option<Range<usize>> = None;
    let mut walk = Walk { text, at: 0, place: Location { line: 1, column: 1 } };
    for token in tokens.map_err(|e| tokenizer_error(text, e))? {
        match token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon => ranges.extend(current.take()),
            _ => {
                let (start, end) = (walk.to(token.span.start), walk.to(token.span.end));
                current = Some(current.map_or(start, |range| range.start)..end);
            }
        }
    }
    ranges.extend(current);
    Ok(ranges)
}

/// Turns places that only go forward into byte offsets, reading the text once.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    place: Location,
}

impl Walk<'_> {
    fn to(&mut self, place: Location) -> usize {
        for c in self.text[self.at..].chars() {
            if self.place >= place {
                break;
            }
            self.at += c.len_utf8();
            self.place = match c {
                '\n' => Location { line: self.place.line + 1, column: 1 },
                _ => Location { line: self.place.line, column: self.place.column + 1 },
            };
        }
        self.at
    }
}

pub(super) fn error(kind: PlanErrorKind, message: impl Into<String>, at: usize) -> PlanError {
    PlanError { kind, message: message.into(), hint: None, position: Some(at) }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => one.to_string(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::EOF => "the end of the statement".to_string(),
        Token::Word(word) => format!("`{}`", word.value),
        Token::Number(digits, _) => digits.clone(),
        other => {
            let symbol = other.to_string();
            let plain = symbol.chars().all(|c| c.is_ascii_punctuation() && c != '\'');
            if plain { format!("`{symbol}`") } else { "a text".to_string() }
        }
    }
}

fn tokenizer_error(text: &str, e: TokenizerError) -> PlanError {
    error(PlanErrorKind::Syntax, e.message.to_lowercase(), offset(text, e.location))
}

/// `3, Column: 7`, as sqlparser ends its messages.
fn location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
}

/// The byte offset of sqlparser's line and column, which count characters from 1; line 0 is the end.
fn offset(text: &str, place: Location) -> usize {
    if place.line == 0 {
        return text.len();
    }
    Walk { text, at: 0, place: Location { line: 1, column: 1 } }.to(place)
}
