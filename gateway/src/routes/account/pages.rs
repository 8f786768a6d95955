//! The pages that prove an address: one with a button, and what its form gets. They load nothing, run no script, and send
//! nothing but the form to this gateway.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use crate::api::reply::Reply;
use crate::mail::MailCode;

/// The largest form that is read, in bytes: a code and its name, with room for what browsers add.
const FORM_MAX_BYTES: usize = 1_024;

/// Returns whether a body is what a browser sends for a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Returns the value of `code` in a query or a form. A code has no character that would be escaped.
pub(super) fn code_in(form: &str) -> Option<String> {
    if form.len() > FORM_MAX_BYTES {
        return None;
    }
    form.split('&').find_map(|pair| pair.strip_prefix("code=")).map(str::to_owned)
}

/// Returns the page with the button. The address of the form is relative, so that a gateway may stand below a path.
pub(super) fn to_confirm(code: &MailCode) -> Reply {
    page(
        "Prove your address",
        &format!(
            "<p>Press the button, and the account that was opened with this address counts by itself.</p>\n\
             <form method=\"post\" action=\"proof\">\n\
             <input type=\"hidden\" name=\"code\" value=\"{}\">\n\
             <button>Prove my address</button>\n</form>\n\
             <p>If you opened no account, close this page: nothing is proven.</p>\n",
            code.expose()
        ),
    )
}

/// Returns the page for a link that was cut.
pub(super) fn broken_link() -> Reply {
    page(
        "This link is not whole",
        "<p>Copy the whole line from the mail, up to its end, or send its code as the mail says.</p>\n",
    )
}

/// Returns the page for an address that was just proven.
pub(super) fn proven() -> Reply {
    page(
        "Your address is proven",
        "<p>The account counts by itself from now on. You may close this page.</p>\n",
    )
}

/// Returns the page for a code that isn't valid.
pub(super) fn not_valid() -> Reply {
    page(
        "This code is not valid",
        "<p>It was used already, is too old, or is not whole. <code>POST /v1/account/address</code> with your key asks \
         for another mail.</p>\n",
    )
    .with_status(StatusCode::FORBIDDEN)
}

fn page(title: &str, body: &str) -> Reply {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    );
    let reply = Reply::of(Bytes::from(html), HeaderValue::from_static("text/html; charset=utf-8"));
    let policy =
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    reply.with([
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // The link has the code.
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_code_and_nothing_else_of_the_link() {
        let code = MailCode::generate().unwrap();
        let form = format!("x=1&code={}&code=2", code.expose());
        assert_eq!(code_in(&form), Some(code.expose()));
        let page = to_confirm(&code);
        let html = String::from_utf8(page.body.whole().to_vec()).unwrap();
        assert!(html.contains(&format!("value=\"{}\"", code.expose())) && html.contains("method=\"post\""));
        assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("http"));
        for wrong in ["", "x=1", "xcode=1", &"code=".repeat(400)] {
            assert_eq!(code_in(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn forms_are_told_by_their_type() {
        for (value, expected) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", true),
            ("application/json", false),
            ("", false),
        ] {
            let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(is_form(&headers), expected, "{value}");
        }
    }
}
