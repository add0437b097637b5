//! Keeps the fuzz targets' inputs in one file a format, `tests/golden/fuzz/<format>`, which the tests read: `corpus unpack`
//! writes them out for a run, with the golden messages as seeds; `corpus pack` keeps what a run (and `cargo fuzz cmin`)
//! left.

use std::fs;
use std::path::Path;

use tidemill_fuzz::formats::FORMATS;
use tidemill_fuzz::{golden, inputs, root};

/// Larger inputs are left out: what they reach, a smaller one reaches as a rule.
const KEPT_BYTES_MAX: usize = 1 << 10;

fn main() -> std::io::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pack = match std::env::args().nth(1).as_deref() {
        Some("pack") => true,
        Some("unpack") => false,
        _ => {
            eprintln!("corpus pack | unpack");
            std::process::exit(2);
        }
    };
    for (format, _) in FORMATS {
        let folder = package.join("corpus").join(format);
        let kept = root().join("tests/golden/fuzz").join(format);
        fs::create_dir_all(&folder)?;
        match pack {
            true => packed(&folder, &kept)?,
            false => unpacked(format, &folder, &kept)?,
        }
    }
    Ok(())
}

/// Each input after its length, four bytes little-endian; smaller ones first.
fn packed(folder: &Path, kept: &Path) -> std::io::Result<()> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder)? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.retain(|input| input.len() <= KEPT_BYTES_MAX);
    inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    inputs.dedup();
    let mut all = Vec::new();
    for input in &inputs {
        all.extend((input.len() as u32).to_le_bytes());
        all.extend(input);
    }
    fs::create_dir_all(kept.parent().expect("it is in a folder"))?;
    fs::write(kept, &all)?;
    println!("{}: {} inputs, {} bytes", kept.display(), inputs.len(), all.len());
    Ok(())
}

fn unpacked(format: &str, folder: &Path, kept: &Path) -> std::io::Result<()> {
    let mut all = inputs::seeds(&golden::feeds(&root()), format);
    all.extend(inputs::kept(&fs::read(kept).unwrap_or_default()).map(<[u8]>::to_vec));
    for (i, input) in all.iter().enumerate() {
        fs::write(folder.join(format!("kept-{i:05}")), input)?;
    }
    println!("{}: {} inputs", folder.display(), all.len());
    Ok(())
}
