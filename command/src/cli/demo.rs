//! `sttabt demo`: serves the built page on this machine, and opens a browser.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use super::args::DemoArgs;
use super::model_dir::{nearest, unreadable};
use super::server::{START, serve};
use super::visible;
use super::{Failure, Result, note};

/// What `npm run build` in demo/ leaves.
const PAGE: &str = "demo/dist";

/// Serves until the process ends.
pub fn run(args: &DemoArgs) -> Result<()> {
    let folder = page(args.dir.as_deref())?;
    // Links are followed as far as they stay in the page's folder, whose own name may hold some.
    let root = folder.canonicalize().map_err(|error| unreadable(&folder, &error))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::Error(format!("port {} is in use; give another with --port", args.port)),
        _ => Failure::Error(format!("cannot listen on port {}: {error}", args.port)),
    })?;
    let port = match listener.local_addr() {
        Ok(address) => address.port(),
        Err(error) => return Err(Failure::Error(format!("cannot serve the page: {error}"))),
    };
    let url = format!("http://{}:{port}/", Ipv4Addr::LOCALHOST);
    let mut out = io::stdout().lock();
    writeln!(out, "{} is at {url}\nCtrl-C ends it", visible(&folder.display().to_string()))?;
    out.flush()?;
    if !args.no_open {
        let url = url.clone();
        thread::spawn(move || open(&url));
    }
    serve(&listener, &Arc::from(root))
}

/// The folder of the built page: `--dir`, else `demo/dist` where the default models are looked for.
fn page(named: Option<&Path>) -> Result<PathBuf> {
    let looked_at = match named {
        Some(folder) if folder.join(START).is_file() => return Ok(folder.to_owned()),
        Some(folder) => vec![folder.to_owned()],
        None => match nearest(PAGE, |folder| folder.join(START).is_file()) {
            Ok(folder) => return Ok(folder),
            Err(looked_at) => looked_at,
        },
    };
    let places: Vec<String> = looked_at.iter().map(|path| format!("  {}", path.join(START).display())).collect();
    Err(Failure::Error(format!(
        "the page is not built, there is no\n{}\nBuild it in a clone of the repository, with Node.js 20.19 or later:\n  \
         (cd web && npm ci && npm run build)\n  (cd demo && npm ci && npm run build)",
        places.join("\n")
    )))
}

/// Asks the desktop for a browser; the URL is on the screen if there is none.
fn open(url: &str) {
    let (program, arguments) = match std::env::consts::OS {
        "macos" => ("open", vec![url]),
        "windows" => ("cmd", vec!["/c", "start", "", url]),
        _ => ("xdg-open", vec![url]),
    };
    let mut command = Command::new(program);
    let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        note(&format!("no browser opened; the page is at {url}"));
    }
}
