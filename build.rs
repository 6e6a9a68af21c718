//! Extracts the two files of Swagger UI that the documentation page needs, and records the version
//! of the compiler for `/metrics`.
//!
//! The files stay compressed: a zip archive and gzip hold the same compressed data, so only the
//! header and the trailer are added here. The program contains no other file of the archive.

use std::error::Error;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::process::Command;

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

const FILES: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=MUSTER_RUSTC={}", compiler()?);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?);
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let mut missing = Vec::from(FILES);
    for index in 0..archive.len() {
        let mut file = archive.by_index_raw(index)?;
        let name = file.name()?.into_owned();
        let Some((_, name)) = name.split_once("/dist/") else { continue };
        if FILES.contains(&name) {
            std::fs::write(out.join(format!("{name}.gz")), gzip(&mut file)?)?;
            missing.retain(|file| *file != name);
        }
    }
    if !missing.is_empty() {
        return Err(format!("the archive has no {}", missing.join(", ")).into());
    }
    Ok(())
}

/// The compiler's version, such as "1.95.0".
fn compiler() -> Result<String, Box<dyn Error>> {
    let rustc = std::env::var_os("RUSTC").ok_or("cargo names no RUSTC")?;
    let output = String::from_utf8(Command::new(rustc).arg("--version").output()?.stdout)?;
    Ok(output.split_whitespace().nth(1).unwrap_or("unknown").to_owned())
}

fn gzip(file: &mut ZipFile<'_, impl Read>) -> Result<Vec<u8>, Box<dyn Error>> {
    // Deflate; no name, no time, unknown operating system (RFC 1952).
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    if file.compression() != CompressionMethod::DEFLATE {
        return Err("the file is not deflated".into());
    }
    let mut packed = HEAD.to_vec();
    file.read_to_end(&mut packed)?;
    packed.extend(file.crc32().to_le_bytes());
    packed.extend(u32::try_from(file.size())?.to_le_bytes());
    Ok(packed)
}
