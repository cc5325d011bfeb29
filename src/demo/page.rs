//! The files of the demo's page, which the program holds.

use axum::http::header;
use axum::response::IntoResponse;

/// The page's policy for what it loads. Microsoft's renderer sets styles by script alone, which the policy allows.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

pub(super) fn html(content: &'static str) -> impl IntoResponse + Clone {
    file("text/html; charset=utf-8", content)
}

pub(super) fn style(content: &'static str) -> impl IntoResponse + Clone {
    file("text/css; charset=utf-8", content)
}

pub(super) fn script(content: &'static str) -> impl IntoResponse + Clone {
    file("text/javascript; charset=utf-8", content)
}

fn file(kind: &'static str, content: &'static str) -> impl IntoResponse + Clone {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, content)
}
