//! Chunks and arrangements against plain ordered maps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::datatypes::DataType;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::chunk::{Chunk as ChunkOps, merge_chains, settle_all};
use timely::container::{ContainerBuilder, PushInto};
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::ContainerBytes;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::probe::Probe;
use timely::progress::Antichain;

use super::chunk::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, Chunk};
use super::fixture::{Collected, Random, edge, rows_at, run, schema, text_of, types};
use super::lanes::Lanes;
use super::layout::Layout;
use super::read::{Reading, chunks, stats};
use super::sort::{Raw, Sorter};
use super::{arrange, fixture};
use crate::dataflow::join::{JoinColumn, JoinOutput, join};

/// (key ++ value, key length, time) to diff.
type Oracle = BTreeMap<(Vec<u8>, u64), Vec<i64>>;

/// Random updates whose rows have a terminator, so that none is a prefix of another.
fn random_raw(random: &mut Random, len: usize, lanes: Lanes, long: bool) -> Raw {
    let mut raw = Raw::new(lanes);
    for _ in 0..len {
        let mut bytes = || -> Vec<u8> {
            let len = if long && random.one_in(20) { 70_000 + random.below(10) } else { random.below(30) };
            let mut bytes: Vec<u8> = (0..len).map(|_| random.below(2) as u8 + 1).collect();
            bytes.truncate(if bytes.len() > 20 && !long { 3 } else { bytes.len() });
            bytes.push(0);
            bytes
        };
        let (key, value) = (bytes(), bytes());
        raw.rows.push(&key, &value);
        raw.times.push(random.below(6));
        raw.diffs.extend((0..lanes.words()).map(|_| random.below(3) as i64 - 1));
    }
    raw
}

fn add(oracle: &mut Oracle, lanes: Lanes, row: &[u8], time: u64, diff: &[i64]) {
    let sum = oracle.entry((row.to_vec(), time)).or_insert_with(|| vec![0; lanes.words()]);
    lanes.add(sum, diff);
}

fn of_chunks<'a>(chunks: impl IntoIterator<Item = &'a Chunk>, lanes: Lanes) -> Oracle {
    let mut found = Oracle::new();
    let mut last: Option<(Vec<u8>, u64)> = None;
    for chunk in chunks {
        assert!(chunk.len() > 0 && chunk.len() <= CHUNK_ROWS_MAX);
        assert!(chunk.len() == 1 || chunk.rows().bytes_in(0, chunk.len()) <= CHUNK_BYTES_MAX);
        for i in 0..chunk.len() {
            let at = (chunk.rows().row(i).to_vec(), chunk.time(i));
            assert!(last.as_ref().is_none_or(|last| *last < at), "chunks are in order and consolidated");
            assert!(chunk.diff(i).iter().any(|word| *word != 0), "no update is zero");
            add(&mut found, lanes, &at.0, at.1, chunk.diff(i));
            last = Some(at);
        }
    }
    found
}

fn of_raw(raws: &[Raw], lanes: Lanes) -> Oracle {
    let mut oracle = Oracle::new();
    for raw in raws {
        (0..raw.len()).for_each(|i| add(&mut oracle, lanes, raw.rows.row(i), raw.times[i], raw.diff(i)));
    }
    oracle.retain(|_, diff| diff.iter().any(|word| *word != 0));
    oracle
}

fn sorted(raw: &Raw) -> Vec<Chunk> {
    let mut chunks = VecDeque::new();
    raw.sorted(&mut chunks);
    chunks.into()
}

fn two_words() -> Lanes {
    let mut lanes = Lanes::NONE;
    lanes.push(2).expect("a short diff");
    lanes
}

#[test]
fn chunks_sort_merge_split_and_advance_like_a_map() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let lanes = if seed % 2 == 0 { Lanes::NONE } else { two_words() };
        let long = seed % 5 == 4;
        let len = if long { 200 } else { 1 + random.below(9000) as usize };
        let raws: Vec<Raw> = (0..2).map(|_| random_raw(&mut random, len, lanes, long)).collect();
        let expected = of_raw(&raws, lanes);
        let mut merged = VecDeque::new();
        merge_chains(sorted(&raws[0]), sorted(&raws[1]), &mut merged);
        assert_eq!(of_chunks(&merged, lanes), expected, "merge");
        let settled = settle_all(merged);
        assert_eq!(of_chunks(&settled, lanes), expected, "settle");

        let frontier = Antichain::from_elem(random.below(7));
        let (mut input, mut residual) = (VecDeque::from(settled.clone()), Antichain::new());
        let (mut keep, mut ship) = (VecDeque::new(), VecDeque::new());
        while !input.is_empty() {
            Chunk::extract(&mut input, frontier.borrow(), &mut residual, &mut keep, &mut ship);
        }
        let (below, above): (Oracle, Oracle) =
            expected.clone().into_iter().partition(|((_, time), _)| *time < frontier.elements()[0]);
        assert_eq!(residual.elements().first(), above.keys().map(|(_, time)| time).min());
        assert_eq!((of_chunks(&ship, lanes), of_chunks(&keep, lanes)), (below, above), "extract");

        let (mut input, mut advanced) = (VecDeque::new(), VecDeque::new());
        for chunk in settled {
            input.push_back(chunk);
            Chunk::advance(&mut input, frontier.borrow(), false, &mut advanced);
        }
        Chunk::advance(&mut input, frontier.borrow(), true, &mut advanced);
        let mut folded = Oracle::new();
        for ((row, time), diff) in &expected {
            add(&mut folded, lanes, row, (*time).max(frontier.elements()[0]), diff);
        }
        folded.retain(|_, diff| diff.iter().any(|word| *word != 0));
        assert_eq!(of_chunks(&advanced, lanes), folded, "advance");
    }
}

#[test]
fn one_row_at_many_times_folds_across_chunks() {
    let mut raw = Raw::default();
    for time in 0..(3 * CHUNK_ROWS_MAX as u64) {
        raw.rows.push(b"k", b"v");
        raw.times.push(time);
        raw.diffs.push(1);
    }
    let (mut input, mut out) = (VecDeque::from(sorted(&raw)), VecDeque::new());
    assert_eq!(input.len(), 3);
    Chunk::advance(&mut input, Antichain::from_elem(1 << 40).borrow(), true, &mut out);
    assert_eq!((out.len(), out[0].len(), out[0].count(0)), (1, 1, 3 * CHUNK_ROWS_MAX as i64));
}

#[test]
fn a_container_survives_the_network() {
    let mut random = Random::new(1);
    let raw = random_raw(&mut random, 500, two_words(), false);
    let mut bytes = Vec::new();
    raw.into_bytes(&mut bytes);
    assert_eq!(bytes.len(), raw.length_in_bytes());
    let mut buffer = timely::bytes::arc::BytesMut::from(bytes).freeze();
    let len = buffer.len();
    let again = Raw::from_bytes(buffer.extract_to(len));
    assert_eq!(of_raw(&[raw], two_words()), of_raw(&[again], two_words()));
}

#[test]
fn small_containers_are_sorted_together() {
    let mut sorter = Sorter::default();
    for key in [3u8, 1, 2] {
        let mut raw = Raw::default();
        raw.rows.push(&[key], &[]);
        raw.times.push(1);
        raw.diffs.push(1);
        sorter.push_into(&mut raw);
        assert!(sorter.extract().is_none());
    }
    let keys: Vec<u8> = sorter.finish().map(|c| (0..c.len()).map(|i| c.key(i).bytes()[0]).collect()).expect("a chunk");
    assert_eq!(keys, [1, 2, 3]);
}

/// Reads an arrangement at several times, compacts it, imports it as of a time into another dataflow.
#[test]
#[expect(clippy::too_many_lines, reason = "one case after another")]
fn a_trace_reads_compacts_and_imports_as_of_a_time() {
    let mut random = Random::new(7);
    let updates = random.churn(3000, 100, 40);
    timely::execute_directly(move |worker| {
        let layout = Arc::new(Layout::new(&types(), vec![0], vec![1, 2]));
        let probe = ProbeHandle::new();
        let for_layout = layout.clone();
        let (mut handle, mut trace) = worker.dataflow::<u64, _, _>(|scope| {
            let (handle, stream) = scope.new_input();
            let arranged = arrange(stream, "test", for_layout);
            arranged.stream.probe_with(&probe);
            (handle, arranged.trace)
        });
        for time in 1..=40 {
            let now: Vec<_> = updates.iter().filter(|u| u.1 == time).cloned().collect();
            handle.send_batch(&mut edge(&now));
            handle.advance_to(time + 1);
            while probe.less_than(&(time + 1)) {
                worker.step();
            }
        }
        let read = |trace: &super::Trace, at: u64| -> fixture::Counts {
            let reading = Reading::new(chunks(trace), at, &layout, schema(&types()));
            reading
                .flat_map(|c| (0..c.counts.len()).map(|i| (text_of(&c.rows, i), c.counts[i])).collect::<Vec<_>>())
                .collect()
        };
        let expected = |at: u64| -> fixture::Counts {
            let rows = rows_at(&updates, at).into_iter().map(|(row, count)| (edge(&[(row, 0, 1)]), count));
            rows.map(|(edge, count)| (text_of(&edge.rows, 0), count)).collect()
        };
        for at in [0, 3, 25, 40] {
            assert_eq!(read(&trace, at), expected(at), "at {at}");
        }
        let before = stats(&trace).updates;
        trace.set_logical_compaction(Antichain::from_elem(30).borrow());
        trace.set_physical_compaction(Antichain::from_elem(41).borrow());
        for _ in 0..500 {
            worker.step();
        }
        handle.advance_to(42);
        for _ in 0..500 {
            worker.step();
        }
        assert!(stats(&trace).updates <= before);
        assert_eq!(read(&trace, 35), expected(35), "compacted");

        let as_of = 33;
        let (collected, probe) = (Collected::default(), ProbeHandle::new());
        let mut button = worker.dataflow::<u64, _, _>(|scope| {
            let (imported, button) =
                trace.import_frontier_core(scope, "import", Antichain::from_elem(as_of), Antichain::new());
            let every = |of: fn(usize) -> JoinColumn| [of(0), of(1)];
            let columns: Vec<JoinColumn> = [JoinColumn::Key(0)]
                .into_iter()
                .chain(every(JoinColumn::Left))
                .chain(every(JoinColumn::Right))
                .collect();
            let mut all: Vec<DataType> = types();
            all.extend_from_slice(&types()[1..]);
            let output = JoinOutput::new(&layout, &layout, columns, schema(&all));
            collected.edges(join(imported.clone(), imported, "self", output), &probe);
            button
        });
        while probe.less_than(&41) {
            worker.step();
        }
        assert!(collected.at(as_of - 1).is_empty(), "nothing below as_of");
        for at in [as_of, 38, 40] {
            let mut pairs = fixture::Counts::new();
            let rows = rows_at(&updates, at);
            for ((k1, n1, t1), c1) in &rows {
                for ((_, n2, t2), c2) in rows.iter().filter(|((k2, _, _), _)| k1 == k2) {
                    let left = text_of(&edge(&[((*k1, *n1, t1.clone()), 0, 1)]).rows, 0);
                    let right = text_of(&edge(&[((None, *n2, t2.clone()), 0, 1)]).rows, 0);
                    let text = format!("{left} {}", right.strip_prefix("NULL ").expect("a NULL key"));
                    *pairs.entry(text).or_default() += c1 * c2;
                }
            }
            assert_eq!(collected.at(at), pairs, "self join at {at}");
        }
        button.press();
    });
}

#[test]
fn keys_are_spread_over_workers_and_stay_whole() {
    let updates = Random::new(3).churn(3000, 40, 5);
    let collected = run(3, [updates.clone(), updates.clone()], |[left, right], collected, probe| {
        let layout = Arc::new(Layout::new(&types(), vec![0], vec![]).drop_null_keys());
        let (left, right) = (arrange(left, "left", layout.clone()), arrange(right, "right", layout.clone()));
        let output = JoinOutput::new(&layout, &layout, vec![JoinColumn::Key(0)], schema(&types()[..1]));
        collected.edges(join(left, right, "join", output), probe);
    });
    let mut expected = fixture::Counts::new();
    for ((key, _, _), count) in rows_at(&updates, 5) {
        if let Some(key) = key {
            *expected.entry(key.to_string()).or_default() += count;
        }
    }
    expected.values_mut().for_each(|count| *count *= *count);
    expected.retain(|_, count| *count != 0);
    assert_eq!(collected.at(5), expected);
}
