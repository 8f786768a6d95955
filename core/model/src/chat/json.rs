//! The filter `tojson` as Hugging Face's loaders give it to templates: Python's `json.dumps` without escapes for letters
//! beyond ASCII and for HTML. It differs from Jinja's own, which escapes `<`, `>`, `&` and `'`.

use std::io;

use minijinja::value::{Kwargs, ViaDeserialize};
use minijinja::{Error as TemplateError, ErrorKind, Value};
use serde::Serialize as _;
use serde_json::ser::{Formatter, Serializer};

/// The widest indentation that a template may ask for.
const INDENT_MAX: usize = 16;

/// Writes a value as JSON. The options are those of `json.dumps` that templates use.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, TemplateError> {
    let failed = |reason: String| TemplateError::new(ErrorKind::InvalidOperation, reason);
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<ViaDeserialize<(String, String)>> = options.get("separators")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    if ascii == Some(true) || sorted == Some(true) {
        return Err(failed("tojson can't sort keys or escape letters".to_owned()));
    }
    if indent > Some(INDENT_MAX) {
        return Err(failed(format!("tojson indents by {INDENT_MAX} at most")));
    }
    let (between, after_key) = match separators {
        Some(said) => said.0,
        None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let style = Style { indent, between, after_key, depth: 0, has_content: false };
    let mut text = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut text, style))
        .map_err(|error| failed(format!("tojson: {error}")))?;
    String::from_utf8(text).map_err(|error| failed(error.to_string()))
}

/// Where Python's `json.dumps` puts spaces and lines.
struct Style {
    indent: Option<usize>,
    between: String,
    after_key: String,
    depth: usize,
    /// Whether the list or table that ends next has anything in it.
    has_content: bool,
}

impl Style {
    fn open<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_content = false;
        writer.write_all(bracket)
    }

    fn close<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_content {
            self.line(writer)?;
        }
        self.has_content = true;
        writer.write_all(bracket)
    }

    fn entry<W: io::Write + ?Sized>(&self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if !is_first {
            writer.write_all(self.between.as_bytes())?;
        }
        self.line(writer)
    }

    fn line<W: io::Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{}", " ".repeat(indent * self.depth)),
            None => Ok(()),
        }
    }
}

impl Formatter for Style {
    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn end_array_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_content = true;
        Ok(())
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.after_key.as_bytes())
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_content = true;
        Ok(())
    }
}
