//! Which dataflows are installed, what they share, and in which order they may go.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataflow::{ArrangementKey, Build, Dataflow, Description, arrangements, fed_tables};
use crate::plan::ir::Plan;
use crate::row::schema::Schema;
use crate::row::{ObjectId, Ts};

/// Shared arrangements are no catalog objects: their numbers begin far above those.
const FIRST_ARRANGEMENT: u64 = 1 << 48;

/// The installed dataflows.
///
/// Invariant: a dataflow that others import is not dropped before the last of them (checked in `remove`).
#[derive(Default)]
pub struct Flows {
    flows: BTreeMap<ObjectId, Flow>,
    shared: BTreeMap<ArrangementKey, ObjectId>,
    arrangements: u64,
}

#[derive(Debug)]
struct Flow {
    imports: Vec<ObjectId>,
    importers: BTreeSet<ObjectId>,
    shares: Option<ArrangementKey>,
    as_of: Ts,
    live: bool,
}

/// A view to install, planned.
pub struct ViewFlow {
    pub id: ObjectId,
    pub name: String,
    pub plan: Plan,
    pub declared_key: Option<Vec<usize>>,
}

impl Flows {
    /// Installs a view and the shared arrangements it is the first to need; returns each new dataflow with the tables
    /// that are to be fed to it, in order of installation.
    pub fn install(
        &mut self,
        dataflow: &Dataflow,
        view: ViewFlow,
        as_of: Ts,
        relation: &dyn Fn(ObjectId) -> (Schema, bool),
    ) -> Vec<(ObjectId, Vec<ObjectId>)> {
        let mut installed = Vec::new();
        let mut shared = Vec::new();
        for key in arrangements(&view.plan) {
            let id = match self.shared.get(&key) {
                Some(id) => *id,
                None => self.arrange(dataflow, &key, as_of, relation, &mut installed),
            };
            shared.push((key, id));
        }
        let is_view = |object: ObjectId| relation(object).1;
        let fed = fed_tables(&view.plan, &is_view);
        let mut imports: Vec<ObjectId> = shared.iter().map(|(_, id)| *id).collect();
        imports.extend(view.plan.objects().into_iter().filter(|object| is_view(*object)));
        let build = Build::View { plan: view.plan, declared_key: view.declared_key, shared };
        dataflow.install(Description { id: view.id, name: view.name, as_of, build });
        self.add(view.id, imports, None, as_of);
        installed.push((view.id, fed));
        installed
    }

    fn arrange(
        &mut self,
        dataflow: &Dataflow,
        key: &ArrangementKey,
        as_of: Ts,
        relation: &dyn Fn(ObjectId) -> (Schema, bool),
        installed: &mut Vec<(ObjectId, Vec<ObjectId>)>,
    ) -> ObjectId {
        let id = ObjectId(FIRST_ARRANGEMENT + self.arrangements);
        self.arrangements += 1;
        let (schema, of_view) = relation(key.of);
        let name = format!("arrangement of {} by {:?}", key.of, key.key);
        let build = Build::Arrangement {
            of: key.of,
            of_view,
            schema,
            columns: key.columns.clone(),
            key: key.key.clone(),
            drop_null_keys: key.drop_null_keys,
        };
        dataflow.install(Description { id, name, as_of, build });
        self.add(id, if of_view { vec![key.of] } else { vec![] }, Some(key.clone()), as_of);
        self.shared.insert(key.clone(), id);
        installed.push((id, if of_view { vec![] } else { vec![key.of] }));
        id
    }

    fn add(&mut self, id: ObjectId, mut imports: Vec<ObjectId>, shares: Option<ArrangementKey>, as_of: Ts) {
        imports.sort();
        imports.dedup();
        for import in &imports {
            let owner = self.flows.get_mut(import).expect("what is imported is installed");
            owner.importers.insert(id);
        }
        self.flows.insert(id, Flow { imports, importers: BTreeSet::new(), shares, as_of, live: false });
    }

    pub fn set_live(&mut self, id: ObjectId) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.live = true;
        }
    }

    pub fn is_installed(&self, id: ObjectId) -> bool {
        self.flows.contains_key(&id)
    }

    pub fn is_live(&self, id: ObjectId) -> bool {
        self.flows.get(&id).is_some_and(|flow| flow.live)
    }

    /// It has no rows below this that mean anything.
    pub fn readable_from(&self, id: ObjectId) -> Ts {
        self.flows.get(&id).map_or(Ts(0), |flow| flow.as_of)
    }

    /// Drops a view's dataflow and the shared arrangements that only it used; returns what was dropped.
    pub fn remove(&mut self, dataflow: &Dataflow, id: ObjectId) -> Vec<ObjectId> {
        let Some(flow) = self.flows.get(&id) else { return Vec::new() };
        assert!(flow.importers.is_empty(), "dataflow {id} is still imported by {:?}", flow.importers);
        let flow = self.flows.remove(&id).expect("found above");
        dataflow.drop_dataflow(id);
        if let Some(key) = &flow.shares {
            self.shared.remove(key);
        }
        let mut dropped = vec![id];
        for import in flow.imports {
            let owner = self.flows.get_mut(&import).expect("what is imported is installed");
            owner.importers.remove(&id);
            if owner.importers.is_empty() && owner.shares.is_some() {
                dropped.extend(self.remove(dataflow, import));
            }
        }
        dropped
    }
}
