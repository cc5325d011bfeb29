//! Programs whose clock is not the system's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the library that shifts a program's clock by the seconds in its variable `SHIFT_S`, where it is in `LD_PRELOAD`.
pub fn shift_library(directory: &Path) -> PathBuf {
    let library = directory.join("shift.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/shift_clock.c");
    // The compiler that Rust links with.
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).status();
    assert!(made.unwrap().success());
    library
}

/// Programs of a server that starts with its clock so many seconds away while it is shifted.
pub struct ShiftedServer(tempfile::TempDir);

impl ShiftedServer {
    pub fn new(bin_dir: &Path, seconds: i64) -> ShiftedServer {
        let directory = tempfile::tempdir().unwrap();
        let library = shift_library(directory.path());
        let server = ShiftedServer(directory);
        server.shift(true);
        for program in ["initdb", "postgres"] {
            let script = format!(
                "#!/bin/sh\nif [ -e {} ]; then export LD_PRELOAD={} SHIFT_S={seconds}; fi\nexec {} \"$@\"\n",
                server.switch().display(),
                library.display(),
                bin_dir.join(program).display()
            );
            let path = server.bin_dir().join(program);
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        // The account that the server runs as has to find them.
        std::fs::set_permissions(server.bin_dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
        server
    }

    /// The directory of the programs.
    pub fn bin_dir(&self) -> &Path {
        self.0.path()
    }

    /// Shifts the clock of the next start, or sets it right.
    pub fn shift(&self, is_shifted: bool) {
        if is_shifted {
            std::fs::write(self.switch(), "").unwrap();
        } else {
            std::fs::remove_file(self.switch()).unwrap();
        }
    }

    fn switch(&self) -> PathBuf {
        self.0.path().join("shift")
    }
}
