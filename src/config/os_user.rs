//! Who sits at the terminal, by the operating system's word. What that person may do is `access`' business.

use nix::unistd::{Uid, User, getuid};

/// Linux keeps here who logged in, and it stays the same through `sudo` and `su` (pam_loginuid(8)).
const LOGGED_IN: &str = "/proc/self/loginuid";

/// What stands there when nobody logged in: in a container, in a service.
const NOBODY: u32 = u32::MAX;

/// The login name of whoever logged in, or, where the system doesn't know that, of whom the process belongs to; a user
/// without a name is their number. Never from the environment, which anybody can set.
pub fn login_name() -> String {
    let logged_in = std::fs::read_to_string(LOGGED_IN).ok();
    let logged_in = logged_in.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != NOBODY);
    let uid = logged_in.map_or_else(getuid, Uid::from_raw);
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}
