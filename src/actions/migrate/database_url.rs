//! The database's URL in Prisma's form, and the forms in which its password can appear in output.
//! <https://www.prisma.io/docs/orm/overview/databases/postgresql#connection-details>

use crate::config::{Environment, LoginCredentials, Server, Tls};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};

/// Bytes that don't stay as they are in every part of a URL (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes that `encodeURIComponent` encodes.
const JAVASCRIPT: &AsciiSet = &RESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The database and the login that the command connects with.
pub struct DatabaseUrl<'a> {
    pub environment: &'a Environment,
    pub server: &'a Server,
    pub database: &'a str,
    pub login: &'a LoginCredentials,
    pub schema: &'a str,
    /// The `application_name` of its sessions.
    pub application: &'a str,
}

impl DatabaseUrl<'_> {
    /// A URL directly to the server: a pooler would give Prisma's advisory lock to another client.
    pub fn url(&self) -> SecretString {
        let Server { host, port, .. } = self.server;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut url = format!("postgresql://{}", encoded(&self.login.user));
        if let Some(password) = &self.login.password {
            url.push_str(&format!(":{}", encoded(password.expose_secret())));
        }
        let (database, application) = (encoded(self.database), encoded(self.application));
        url.push_str(&format!("@{host}:{port}/{database}?{}&application_name={application}", self.tls()));
        if self.schema != "public" {
            url.push_str(&format!("&schema={}", encoded(self.schema)));
        }
        url.into()
    }

    /// Prisma checks a certificate only if `sslaccept` says so; its `sslcert` is the authority's.
    fn tls(&self) -> String {
        match &self.environment.tls {
            Tls::Off => "sslmode=disable".to_owned(),
            Tls::Verified { ca_file } => {
                let mut verified = "sslmode=require&sslaccept=strict".to_owned();
                if let Some(file) = ca_file.as_ref().and_then(|file| std::path::absolute(file).ok()) {
                    verified.push_str(&format!("&sslcert={}", encoded(&file.to_string_lossy())));
                }
                verified
            }
        }
    }
}

/// A secret and its encoded forms in a URL.
pub fn forms(secret: &SecretString) -> Vec<String> {
    let plain = secret.expose_secret();
    let strict = encoded(plain);
    let javascript = utf8_percent_encode(plain, JAVASCRIPT).to_string();
    vec![plain.to_owned(), lower_hex(&strict), lower_hex(&javascript), strict, javascript]
}

/// `%2F` → `%2f`.
fn lower_hex(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        text.push_str(&format!("%{}{rest}", digits.to_lowercase()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(tls: &str, host: &str) -> Environment {
        let text = format!(
            "listen = \"127.0.0.1:1\"\n[store]\npath = \"x\"\n[backups]\ndirectory = \"x\"\n\
             [[environments]]\nname = \"e\"\nproduction = false\n{tls}\n\
             [[environments.servers]]\nname = \"s\"\nhost = \"{host}\"\n\
             [environments.logins]\nreader = {{ user = \"r\" }}\noperator = {{ user = \"o\" }}\n\
             [[services]]\nname = \"a\"\ndatabase = \"a\"\n"
        );
        crate::config::Config::parse("x.toml", &text, &|_| None).unwrap().environments.remove(0)
    }

    fn url(environment: &Environment, schema: &str) -> String {
        let login = LoginCredentials { user: "o'hara@x".into(), password: Some("p:a/s#s %w".into()) };
        let connection = DatabaseUrl {
            environment,
            server: &environment.servers[0],
            database: "a db?",
            login: &login,
            schema,
            application: "countersign #7 ana",
        };
        connection.url().expose_secret().to_owned()
    }

    #[test]
    fn every_part_is_encoded_and_the_certificate_is_checked() {
        let verified = environment("", "db.example.com");
        assert_eq!(
            url(&verified, "public"),
            "postgresql://o%27hara%40x:p%3Aa%2Fs%23s%20%25w@db.example.com:5432/a%20db%3F\
             ?sslmode=require&sslaccept=strict&application_name=countersign%20%237%20ana"
        );
        let local = environment("tls = \"off\"", "::1");
        let local = url(&local, "Own");
        assert!(local.contains("@[::1]:5432/") && local.contains("?sslmode=disable&"), "{local}");
        assert!(local.ends_with("&schema=Own"), "{local}");
    }

    #[test]
    fn a_secret_is_known_in_every_form_that_a_url_gives_it() {
        let forms = forms(&"p(A/s".into());
        for form in ["p(A/s", "p%28A%2Fs", "p%28A%2fs", "p(A%2Fs", "p(A%2fs"] {
            assert!(forms.iter().any(|known| known == form), "{form} is not in {forms:?}");
        }
    }
}
