//! A streaming replica of a throwaway server, made without any client program: a copy of the stopped server's directory.

use super::{Cluster, Postmaster, free_port, process};
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

/// The replica's `application_name`, under which its primary shows it.
const NAME: &str = "sample-replica";

impl Cluster {
    /// Makes a replica that streams from this server over the given slot, which must be there. This server is stopped for a
    /// moment, as by a crash, and its sessions are lost.
    pub async fn replica(&mut self, slot: &str) -> anyhow::Result<Cluster> {
        let (dir, account) = process::make_directory()?;
        self.stop()?;
        let copied = account
            .command(Path::new("/bin/cp"))
            .arg("-R")
            .arg(self.dir.path().join("data"))
            .arg(dir.path().join("data"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .status()
            .context("copying the server's directory")?;
        if !copied.success() {
            bail!("copying the server's directory: {copied}");
        }
        self.restart().await?;
        let data = dir.path().join("data");
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700))?;
        forget(&data)?;
        super::write_private(&data.join("standby.signal"), b"", account)?;
        self.write_replica_settings(&data, (dir.path(), slot))?;
        let port = free_port()?;
        let server = Postmaster::spawn(&self.bin_dir, dir.path(), account, port)?;
        let (bin_dir, password) = (self.bin_dir.clone(), self.password.clone());
        Cluster { server, dir, bin_dir, account, password, port, version_num: 0 }.settled().await
    }

    fn write_replica_settings(&self, data: &Path, (dir, slot): (&Path, &str)) -> anyhow::Result<()> {
        let path = data.join("postgresql.conf");
        let mut conf = std::fs::read_to_string(&path).context("reading postgresql.conf")?;
        let primary = format!(
            "host={} port={} user={} password={} application_name={NAME}",
            self.host(),
            self.port,
            self.superuser(),
            self.password
        );
        let socket = dir.display().to_string();
        let settings = [
            ("primary_conninfo", primary.as_str()),
            ("primary_slot_name", slot),
            ("unix_socket_directories", &socket),
        ];
        for (name, value) in settings {
            writeln!(conf, "{name} = '{value}'")?;
        }
        std::fs::write(&path, conf).context("writing postgresql.conf")
    }
}

/// Removes what is the primary's alone, as pg_basebackup leaves it out: its process' file, and its slots.
fn forget(data: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(data.join("postmaster.pid")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    for slot in std::fs::read_dir(data.join("pg_replslot"))? {
        std::fs::remove_dir_all(slot?.path())?;
    }
    Ok(())
}
