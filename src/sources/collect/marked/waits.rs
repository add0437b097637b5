//! What is held and must hear more before it is given, in words.

use super::Marked;

impl Marked {
    /// The first transaction that has ended and is not complete, else that none has ended.
    pub fn waiting(&self) -> Option<String> {
        if let Some(end) = self.ended.front() {
            let open = self.open.get(&end.id);
            let missing = |(table, count): &(usize, u64)| {
                let have = open.and_then(|open| open.counts.get(table)).copied().unwrap_or(0);
                let name = self.names.iter().find(|(_, place)| *place == table).map_or("", |(name, _)| name);
                (have < *count).then(|| format!("{have} of {count} events of {name}"))
            };
            let missing: Vec<String> = end.counts.iter().filter_map(missing).collect();
            return (!missing.is_empty()).then(|| format!("transaction {} has {}", end.id, missing.join(", ")));
        }
        (!self.open.is_empty()).then(|| match self.marks {
            Some(_) => "transactions have not ended".into(),
            None => "no message of the transaction topic was read: it must be among the source's topics".into(),
        })
    }
}
