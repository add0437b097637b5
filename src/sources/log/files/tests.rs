//! A folder that grows while it is read.

use std::fs;
use std::io::Write;

use super::disk::Disk;
use super::*;

fn files(home: &tempfile::TempDir) -> FilesLog {
    FilesLog::new(Arc::new(Disk::new(home.path())), Lines::Changes)
}

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
    let mut log = files(&home);
    let partitions = log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    assert_eq!(partitions[0].topic, "shop/orders/1");
    let first = lines(&mut log, 4).await;
    assert_eq!(texts(&first), ["one", "two", "three", "four"], "the last line has no end yet");
    let mut file = fs::OpenOptions::new().append(true).open(folder.join("CDC000010.json")).unwrap();
    writeln!(file, " and a half").unwrap();
    assert_eq!(texts(&lines(&mut log, 1).await), ["five and a half"]);
    for read in 0..=4 {
        let mut again = files(&home);
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
    let mut log = files(&home);
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
    assert_eq!(until_lost(&mut log).await, "");
}

/// What a log says before it is lost.
async fn until_lost(log: &mut FilesLog) -> String {
    let mut said = String::new();
    while let Ok(entries) = log.next().await {
        entries.into_iter().for_each(|entry| said += std::str::from_utf8(&entry.value.unwrap()).unwrap());
    }
    said
}

#[tokio::test]
async fn a_checkpoint_waits_for_a_new_folder_and_for_partitions_that_wait() {
    let home = tempfile::tempdir().unwrap();
    for folder in ["a", "b"] {
        fs::create_dir_all(home.path().join(folder)).unwrap();
        fs::write(home.path().join(folder).join("CDC1.json"), "row\n").unwrap();
    }
    let mut log = files(&home);
    log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    lines(&mut log, 2).await;
    // Whenever the reader looks, it sees the folder's rows or no checkpoint: one that covers them is written last.
    fs::create_dir_all(home.path().join("c")).unwrap();
    fs::write(home.path().join("c/CDC1.json"), "row of c\n").unwrap();
    fs::write(home.path().join("metadata"), r#"{"checkpoint-ts":7}"#).unwrap();
    assert_eq!(until_lost(&mut log).await, "", "rows of c may be below it");

    let mut log = files(&home);
    log.open(&Offsets::default(), Begin::Earliest).await.unwrap();
    let found = lines(&mut log, 6).await;
    assert_eq!(found.iter().filter(|(_, _, text)| text.contains(r#""watermarkTs":7"#)).count(), 3);
    log.pause(0, true).unwrap();
    tokio::time::sleep(2 * PAUSED_POLL).await;
    fs::write(home.path().join("a/CDC2.json"), "late row of a\n").unwrap();
    fs::write(home.path().join("b/CDC2.json"), "late row of b\n").unwrap();
    fs::write(home.path().join("metadata"), r#"{"checkpoint-ts":9}"#).unwrap();
    let found = lines(&mut log, 3).await;
    assert!(found.iter().all(|(partition, ..)| *partition > 0), "{found:?}");
    log.pause(0, false).unwrap();
    let found = lines(&mut log, 2).await;
    assert_eq!((found[0].0, found[0].2.as_str()), (0, "late row of a"));
    assert!(found[1].2.contains(r#""watermarkTs":9"#), "{found:?}");
}

#[tokio::test]
async fn what_was_read_must_still_be_there() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("log-7.jsonl"), "one\ntwo\n").unwrap();
    let mut log = files(&home);
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
