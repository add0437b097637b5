//! A folder that grows while it is read.

use std::fs;
use std::io::Write;

use super::*;

async fn lines(log: &mut FilesLog, count: usize) -> Vec<(usize, i64, String)> {
    let mut found = Vec::new();
    while found.len() < count {
        for entry in log.next().await.unwrap() {
            let text = String::from_utf8(entry.value.unwrap()).unwrap();
            found.push((entry.partition, entry.offset, text));
        }
    }
    found
}

fn texts(found: &[(usize, i64, String)]) -> Vec<&str> {
    found.iter().map(|(_, _, text)| text.as_str()).collect()
}

/// As a source stands after some messages.
fn after(partitions: &[Partition], found: &[(usize, i64, String)]) -> Offsets {
    let mut offsets = Offsets::default();
    for (i, partition) in partitions.iter().enumerate() {
        let last = found.iter().filter(|(of, ..)| *of == i).map(|(_, offset, _)| offset + 1).max();
        let topic = offsets.topics.entry(partition.topic.clone()).or_default();
        topic.next.insert(0, last.unwrap_or(partition.next));
    }
    offsets
}

#[tokio::test]
async fn lines_come_in_order_of_the_files_numbers_and_again_from_any_place() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("shop/orders/1");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("CDC000010.json"), "four\r\nfive").unwrap();
    fs::write(folder.join("CDC000009.json"), "one\n\ntwo\nthree").unwrap();
    let mut log = FilesLog::new(home.path().to_path_buf(), Lines::Changes);
    let partitions = log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    assert_eq!(partitions[0].topic, "shop/orders/1");
    let first = lines(&mut log, 4).await;
    assert_eq!(texts(&first), ["one", "two", "three", "four"], "the last line has no end yet");
    let mut file = fs::OpenOptions::new().append(true).open(folder.join("CDC000010.json")).unwrap();
    writeln!(file, " and a half").unwrap();
    assert_eq!(texts(&lines(&mut log, 1).await), ["five and a half"]);
    for read in 0..=4 {
        let mut again = FilesLog::new(home.path().to_path_buf(), Lines::Changes);
        again.open(&after(&partitions, &first[..read]), Begin::Earliest).await.unwrap();
        let expected = ["one", "two", "three", "four", "five and a half"];
        assert_eq!(texts(&lines(&mut again, 5 - read).await), expected[read..], "after {read}");
    }
}

#[tokio::test]
async fn a_checkpoint_is_said_behind_what_it_covers_and_a_new_folder_opens_the_log_anew() {
    let home = tempfile::tempdir().unwrap();
    for (table, text) in [("a", "row of a\n"), ("b", "row of b\n")] {
        fs::create_dir_all(home.path().join(table)).unwrap();
        fs::write(home.path().join(table).join("CDC1.json"), text).unwrap();
    }
    fs::write(home.path().join("metadata"), r#"{"checkpoint-ts":449823817621929984}"#).unwrap();
    let mut log = FilesLog::new(home.path().to_path_buf(), Lines::Changes);
    log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    let found = lines(&mut log, 4).await;
    let of = |partition| found.iter().filter(move |(of, ..)| *of == partition).map(|(_, _, text)| text.as_str());
    for (partition, row) in [(0, "row of a"), (1, "row of b")] {
        let said: Vec<&str> = of(partition).collect();
        assert_eq!(said[0], row);
        assert!(said[1].contains("449823817621929984"), "{said:?}");
    }
    fs::create_dir_all(home.path().join("c")).unwrap();
    fs::write(home.path().join("c/CDC1.json"), "row of c\n").unwrap();
    assert!(matches!(log.next().await, Err(Fault::Lost { .. })));
}

#[tokio::test]
async fn what_was_read_must_still_be_there() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("log-7.jsonl"), "one\ntwo\n").unwrap();
    let mut log = FilesLog::new(home.path().to_path_buf(), Lines::Changes);
    let partitions = log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    let found = lines(&mut log, 2).await;
    let stands = after(&partitions, &found);
    fs::write(home.path().join("log-7.jsonl"), "one\n").unwrap();
    let code = |fault| match fault {
        Fault::Stop(stop) => stop.code,
        Fault::Lost { reason, .. } => panic!("{reason}"),
    };
    assert_eq!(code(log.open(&stands, Begin::Earliest).await.unwrap_err()), "SOURCE_DIVERGED");
    fs::rename(home.path().join("log-7.jsonl"), home.path().join("log-9.jsonl")).unwrap();
    assert_eq!(code(log.open(&stands, Begin::Earliest).await.unwrap_err()), "SOURCE_GONE");
    fs::write(home.path().join("other-9.jsonl"), "three\n").unwrap();
    assert_eq!(code(log.open(&stands, Begin::Earliest).await.unwrap_err()), "BAD_FILE_NAME");
}
