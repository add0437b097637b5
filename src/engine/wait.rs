//! `tidemill_wait`: a client waits until what it wrote upstream is in what it reads here.

use crate::engine::Core;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::feeds::FeedState;
use crate::plan::statement::{Name, ObjectKind};
use crate::plan::wait::Wait;
use crate::row::{ObjectId, Position};
use crate::sources::{PositionError, Wanted};

impl Core {
    /// Waits until every read has everything up to a position of a source; where the source then stands.
    pub async fn wait_for_position(&self, wait: &Wait) -> Result<String, EngineError> {
        let source = self.resolve_kind(&wait.source, ObjectKind::Source)?.id();
        let positions = self.feeds.positions(source).ok_or_else(|| dropped(&wait.source))?;
        let limit = tokio::time::sleep(wait.limit);
        tokio::pin!(limit);
        let wanted = tokio::select! {
            biased;
            wanted = positions.wanted(&wait.position) => wanted.map_err(|e| unwanted(&wait.source, e))?,
            () = &mut limit => return Err(self.too_late(source, wait, &wait.position)),
        };
        let mut complete = self.progress.complete();
        let mut last = None;
        loop {
            let at = *complete.borrow_and_update();
            let position = self.progress.position(at, source);
            if position != last && position.as_ref().is_some_and(|position| wanted.is_in(position)) {
                return Ok(self.position_text(source, position.as_ref()).unwrap_or(wanted.text));
            }
            last = position;
            self.may_come(source, &wait.source, &wanted)?;
            tokio::select! {
                changed = complete.changed() => {
                    changed.map_err(|_| EngineError::new(ErrorKind::NotReady, "the server is stopping"))?;
                }
                () = &mut limit => return Err(self.too_late(source, wait, &wanted.text)),
            }
        }
    }

    /// A position of a source as `tidemill_wait` takes it.
    pub fn position_text(&self, source: ObjectId, position: Option<&Position>) -> Option<String> {
        Some(self.feeds.positions(source)?.text(position?))
    }

    /// An error where it cannot be reached by waiting.
    fn may_come(&self, source: ObjectId, name: &Name, wanted: &Wanted) -> Result<(), EngineError> {
        if let Some(reason) = &*self.stopped.borrow() {
            let message = format!("no new tick can be made: {reason}");
            return Err(EngineError::new(ErrorKind::NotReady, message));
        }
        match self.feeds.state(source) {
            None => Err(dropped(name)),
            // What it sent before it stopped is on its way.
            Some(FeedState::Stopped(stop)) if !stop.position.as_ref().is_some_and(|at| wanted.is_in(at)) => {
                let message =
                    format!("source {name} has stopped before {}: {}: {}", wanted.text, stop.code, stop.message);
                Err(EngineError::new(ErrorKind::NotReady, message).hint(stop.remedy))
            }
            Some(_) => Ok(()),
        }
    }

    fn too_late(&self, source: ObjectId, wait: &Wait, wanted: &str) -> EngineError {
        let position = self.progress.position(self.progress.completed(), source);
        let at = self.position_text(source, position.as_ref()).unwrap_or_else(|| "nothing it has read".to_string());
        let state = self.feeds.state(source).map_or_else(|| "dropped".to_string(), |state| state.to_string());
        let (name, limit) = (&wait.source, wait.limit);
        let message = format!("source {name} has not reached {wanted} within {limit:?}: it stands at {at} ({state})");
        EngineError::new(ErrorKind::NotReady, message).hint("wait longer with a third argument, such as '60s'")
    }
}

fn dropped(name: &Name) -> EngineError {
    EngineError::new(ErrorKind::UnknownObject, format!("source {name} was dropped"))
}

fn unwanted(name: &Name, error: PositionError) -> EngineError {
    let message = format!("source {name}: {error}");
    match error {
        PositionError::Unreadable { remedy, .. } => EngineError::new(ErrorKind::InvalidValue, message).hint(remedy),
        PositionError::Upstream { .. } => EngineError::new(ErrorKind::Connection, message),
    }
}
