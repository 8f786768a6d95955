//! What the description of the API says of a route, beyond what the table of paths and the tables of bodies say
//! themselves. Each file under `routes/` has one [`Operation`] for each of its routes, as a constant; `http/description`
//! lists them and makes an OpenAPI document of it all.

use crate::fastapi::Field;

/// A group of operations that are shown together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// OpenAI's face.
    OpenAi,
    /// Jobs under `/v1`.
    Jobs,
    /// Keys and what was used under them.
    Keys,
    /// The network's own face.
    Own,
    /// What a node's worker asks.
    Nodes,
    /// What operators and load balancers ask.
    Operators,
    /// This description itself.
    Description,
}

impl Group {
    /// All groups, in the order in which they are shown.
    pub(crate) const ALL: [Self; 7] =
        [Self::OpenAi, Self::Jobs, Self::Keys, Self::Own, Self::Nodes, Self::Operators, Self::Description];

    /// Returns the group's name.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "Chat and models",
            Self::Jobs => "Jobs",
            Self::Keys => "Keys and usage",
            Self::Own => "The network's own API",
            Self::Nodes => "Nodes",
            Self::Operators => "Operators",
            Self::Description => "Description",
        }
    }

    /// Returns what the group is for.
    #[must_use]
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI's formats, so that OpenAI's clients work with the base URL of `/v1`.",
            Self::Jobs => "Every accepted request is a job, which can be looked at and cancelled by its id.",
            Self::Keys => "An account's keys by their public ids, and what was used under them.",
            Self::Own => {
                "The paths without a prefix. Bodies are checked, and mistakes reported, as FastAPI does."
            }
            Self::Nodes => "How a node is registered, let in and managed by its owner, and what it earned.",
            Self::Operators => "For load balancers and monitoring.",
            Self::Description => "What this API is, for people and for programs.",
        }
    }
}

/// One route's description.
#[derive(Debug)]
pub(crate) struct Operation {
    /// The name by which generated clients call it; unique.
    pub(crate) id: &'static str,
    /// The group that it is shown in.
    pub(crate) group: Group,
    /// What it does, in a few words.
    pub(crate) summary: &'static str,
    /// What it does, in sentences.
    pub(crate) about: &'static str,
    /// Its parameters in the path, the query and the headers.
    pub(crate) parameters: &'static [Parameter],
    /// Its body, if it takes one.
    pub(crate) body: Option<RequestBody>,
    /// Its good reply.
    pub(crate) reply: GoodReply,
    /// The codes of the errors that it may answer with beyond those that follow from its access and from having a body.
    pub(crate) errors: &'static [&'static str],
}

/// A parameter.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// Where it stands.
    pub(crate) place: Place,
    /// Its name.
    pub(crate) name: &'static str,
    /// Its values.
    pub(crate) shape: Shape,
    /// What it means, in sentences.
    pub(crate) about: &'static str,
    /// A value that may be copied.
    pub(crate) example: &'static str,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the path. It is always required.
    Path,
    /// In the query. It may be left out.
    Query,
    /// In the query. It is always required.
    RequiredQuery,
    /// In the headers. It may be left out.
    Header,
}

impl Place {
    /// Returns OpenAPI's word.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query | Self::RequiredQuery => "query",
            Self::Header => "header",
        }
    }

    /// Returns whether the parameter has to be there.
    #[must_use]
    pub(crate) const fn is_required(self) -> bool {
        matches!(self, Self::Path | Self::RequiredQuery)
    }
}

/// A body that a route takes, in JSON.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// Its shape.
    pub(crate) shape: Shape,
    /// A body that is accepted, as JSON, where a model of that name is served.
    pub(crate) example: &'static str,
    /// Whether it has to be there.
    pub(crate) required: bool,
}

/// Makes a body that has to be there.
#[must_use]
pub(crate) const fn body(shape: Shape, example: &'static str) -> RequestBody {
    RequestBody { shape, example, required: true }
}

/// The reply to a request that succeeds.
#[derive(Debug)]
pub(crate) struct GoodReply {
    /// Its status.
    pub(crate) status: u16,
    /// What it tells, in a sentence.
    pub(crate) about: &'static str,
    /// What it looks like.
    pub(crate) content: Content,
    /// Whether it may concern a job, whose id is then in the header `x-job-id`.
    pub(crate) names_job: bool,
    /// What it means, with status 503, that the same content comes with a failure; none if it never does.
    pub(crate) unready: Option<&'static str>,
    /// The reply with status 202 to a client that doesn't wait for the end; none if there is no such reply.
    pub(crate) accepted: Option<Accepted>,
}

/// The reply about something that was accepted and goes on.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// What it tells, in a sentence.
    pub(crate) about: &'static str,
    /// What it looks like.
    pub(crate) shape: Shape,
}

/// The content of a reply.
#[derive(Debug)]
pub(crate) enum Content {
    /// JSON of this shape.
    Json(Shape),
    /// A page for people.
    Page,
    /// JSON of this shape, or a page for clients that accept one.
    JsonOrPage(Shape),
    /// JSON of this shape, or a table in CSV for clients that ask for one.
    JsonOrTable(Shape),
    /// JSON of this shape, or server-sent events for clients that ask for a stream.
    JsonOrEvents(Shape),
    /// Server-sent events, or none with status 204 to a client that has them all.
    Events,
    /// Lines, each of which is JSON.
    Lines,
    /// None: the operation always fails.
    Never,
}

/// The shape of a JSON value, as far as replies and parameters need it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// A string that this regular expression matches.
    Pattern(&'static str),
    /// One of these strings.
    Words(&'static [&'static str]),
    /// A day of the calendar (UTC), such as `2026-11-30`.
    Day,
    /// A non-negative integer.
    Count,
    /// An integer from the first to the second, both included.
    Between(u64, u64),
    /// A whole number of seconds, from 1 to this setting of the gateway, which is in milliseconds.
    SecondsWithin(&'static str),
    /// A number.
    Number,
    /// A time in seconds since 1970.
    Time,
    /// `true` or `false`.
    Flag,
    /// `null`.
    Null,
    /// Any JSON.
    Any,
    /// Pairs of texts by which a client finds its jobs.
    Pairs,
    /// A value of one of these shapes.
    Either(&'static [Shape]),
    /// `null`, or a value of this shape.
    Maybe(&'static Shape),
    /// A list.
    List(&'static Shape),
    /// An object with these members. There may be others, which a later version names.
    Members(&'static [Member]),
    /// An object whose members all have this shape.
    Map(&'static Shape),
    /// A body that is checked by this table, which ignores other members.
    Fields(&'static [Field]),
    /// The same, but other members are refused.
    Closed(&'static [Field]),
    /// A body that is checked by this table, with the options that every conversation takes. OpenAI's unsupported options
    /// are taken with neutral values alone.
    Conversation {
        /// The table that the body is checked by.
        fields: &'static [Field],
        /// Whether it is OpenAI's form, with its pairs and its rules for messages.
        is_openais: bool,
    },
    /// A conversation that is submitted as a job, or the object with a list of them.
    Jobs,
    /// A shape that is described once, under its name.
    Named(&'static Named),
}

/// A shape with a name.
#[derive(Debug)]
pub(crate) struct Named {
    /// The name; unique.
    pub(crate) name: &'static str,
    /// What it is, in a sentence.
    pub(crate) about: &'static str,
    /// The shape.
    pub(crate) shape: Shape,
}

/// One member of an object in a reply.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its values.
    pub(crate) shape: Shape,
    /// What it means.
    pub(crate) about: &'static str,
    /// Whether it is always there.
    pub(crate) always: bool,
}

/// Makes a member that is always there.
#[must_use]
pub(crate) const fn always(name: &'static str, shape: Shape, about: &'static str) -> Member {
    Member { name, shape, about, always: true }
}

/// Makes a member that may be absent.
#[must_use]
pub(crate) const fn sometimes(name: &'static str, shape: Shape, about: &'static str) -> Member {
    Member { name, shape, about, always: false }
}

/// Makes a reply in JSON.
#[must_use]
pub(crate) const fn json(about: &'static str, shape: Shape) -> GoodReply {
    GoodReply {
        status: 200,
        about,
        content: Content::Json(shape),
        names_job: false,
        unready: None,
        accepted: None,
    }
}

/// Makes a reply in JSON that may concern a job.
#[must_use]
pub(crate) const fn json_of_job(about: &'static str, shape: Shape) -> GoodReply {
    GoodReply { names_job: true, ..json(about, shape) }
}

/// Makes a reply in JSON about a job that goes on if the client prefers not to wait.
#[must_use]
pub(crate) const fn json_or_accepted(about: &'static str, shape: Shape, accepted: Accepted) -> GoodReply {
    GoodReply { accepted: Some(accepted), ..json_of_job(about, shape) }
}

/// Makes the same reply, which comes as server-sent events to a client that asks for a stream.
#[must_use]
pub(crate) const fn streamed_or_accepted(about: &'static str, shape: Shape, accepted: Accepted) -> GoodReply {
    let GoodReply { status, about, names_job, unready, .. } = json_of_job(about, shape);
    let (content, accepted) = (Content::JsonOrEvents(shape), Some(accepted));
    GoodReply { status, about, content, names_job, unready, accepted }
}

/// The header by which a client says for how long it waits.
pub(crate) const PREFER: Parameter = Parameter {
    place: Place::Header,
    name: "Prefer",
    shape: Shape::Pattern("^(respond-async|wait=[0-9]{1,3})(, (respond-async|wait=[0-9]{1,3}))?$"),
    about: "`wait=N`: the reply comes after at most N seconds, with the job in place of the answer if there is none by then. \
            `respond-async`: the reply comes once the job is accepted. The job goes on either way. `Preference-Applied` says \
            what was done; other preferences are ignored.",
    example: "wait=10",
};

/// The header by which a client bounds how long its job may take.
pub(crate) const CANCEL_AFTER: Parameter = Parameter {
    place: Place::Header,
    name: "Cancel-After",
    shape: Shape::SecondsWithin("submit_deadline_ms"),
    about: "The seconds after which a job without an answer ends as expired, whether the client waits or not.",
    example: "300",
};

/// The header by which a client marks a request that it may send again.
pub(crate) const IDEMPOTENCY_KEY: Parameter = Parameter {
    place: Place::Header,
    name: "Idempotency-Key",
    // What stands between quotes counts as the same without them, so none are shown.
    shape: Shape::Pattern("^[!#-~]([ -~]{0,253}[!#-~])?$"),
    about: "A text of the client's choice, of 1 to 255 printable ASCII characters. The same request under the same key makes \
            no second job: it gets the answer of the first one, with the header `idempotent-replayed: true`, or 409 while that \
            one runs; a stream joins it then. A key is remembered for a day after its job's end. An end that says nothing about the request, such as \
            too few nodes, frees the key.",
    example: "8e03978e-40d5-43dd-bc93-6894a57f9324",
};

/// The header that a client's own id for a request stands in.
pub(crate) const CLIENT_REQUEST_ID: Parameter = Parameter {
    place: Place::Header,
    name: "x-client-request-id",
    shape: Shape::Text,
    about: "An id of the client's choice, which the reply repeats if it has at most 512 ASCII characters.",
    example: "trace-7f3a",
};

/// The shape of a job's id.
pub(crate) const JOB_ID: Shape = Shape::Pattern("^job_[0-9a-f]{32}$");
