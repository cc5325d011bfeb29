//! The database's URL in Prisma's form, and the forms in which its password can appear in output.
//! <https://www.prisma.io/docs/orm/overview/databases/postgresql#connection-details>

use crate::config::{Environment, LoginCredentials, Server, Tls};
use secrecy::{ExposeSecret, SecretString};

/// A byte that stays as it is in every part of a URL (RFC 3986, 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Further bytes that `encodeURIComponent` doesn't encode.
const JAVASCRIPT: &[u8] = b"!'()*";

fn encoded(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
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
        let part = |text: &str| encoded(text, is_unreserved);
        let password = self.login.password.as_ref();
        let password =
            password.map_or(String::new(), |password| format!(":{}", part(password.expose_secret())));
        let host = if self.server.host.contains(':') {
            format!("[{}]", self.server.host)
        } else {
            self.server.host.clone()
        };
        let mut url = format!(
            "postgresql://{}{password}@{host}:{}/{}?",
            part(&self.login.user),
            self.server.port,
            part(self.database)
        );
        url.push_str(&self.tls());
        url.push_str(&format!("&application_name={}", part(self.application)));
        if self.schema != "public" {
            url.push_str(&format!("&schema={}", part(self.schema)));
        }
        url.into()
    }

    /// Prisma checks a certificate only if `sslaccept` says so; its `sslcert` is the authority's.
    fn tls(&self) -> String {
        match &self.environment.tls {
            Tls::Off => "sslmode=disable".to_owned(),
            Tls::Verified { ca_file } => {
                let file = ca_file.as_ref().and_then(|file| std::path::absolute(file).ok());
                let file = file.map(|file| encoded(&file.to_string_lossy(), is_unreserved));
                let file = file.map_or(String::new(), |file| format!("&sslcert={file}"));
                format!("sslmode=require&sslaccept=strict{file}")
            }
        }
    }
}

/// A secret and its encoded forms in a URL.
pub fn forms(secret: &SecretString) -> Vec<String> {
    let plain = secret.expose_secret();
    let strict = encoded(plain, is_unreserved);
    let javascript = encoded(plain, |byte| is_unreserved(byte) || JAVASCRIPT.contains(&byte));
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
