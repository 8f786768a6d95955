//! The life of an assignment, from top to bottom: read it, find its answer, a run or a slot for it, wait, publish the
//! result, settle the delivery. And the life of a run: render the prompt, decode, turn tokens back into text.
//!
//! A run belongs to no assignment (see `desk`): each assignment watches its own budget, and the run goes on until no
//! assignment waits for it. Settling comes last, after publishing: if anything dies in between, the broker gives the
//! assignment out again, and a replica that is published twice has the same id.

mod admission;
mod answer;
mod cache;
mod desk;
mod publisher;
mod redelivery;
mod stations;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::Delivery;
use infera_model::chat::prompt_hash;
use infera_telemetry::metrics::{WORKER_DECODE, WORKER_QUEUE_WAIT};
use infera_telemetry::trace;
use infera_types::features::{Feature, Features};
use infera_types::knobs::Knobs;
use infera_types::messages::{Assignment, DecodeError, RefusalReason, ReplicaTiming, Wire as _};
use metrics::histogram;
use tokio::time::Instant;
use tracing::{Instrument as _, info_span};

pub(crate) use self::admission::Refused;
use self::admission::{Situation, admit};
use self::answer::{Answer, AnswerKey};
pub(crate) use self::cache::SharedCache;
use self::desk::{Entered, Outcome, OutcomeReceiver, Placement, Seat};
pub(crate) use self::publisher::Publisher;
pub(crate) use self::redelivery::TriedAlone;
pub(crate) use self::stations::{SharedParts, Station, StationParts, Stations};
use crate::executor::{Health, Watcher, Work};

/// The longest budget that counts: a verifier's mistake must not keep a sequence decoding for years.
const BUDGET_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Takes one delivery through its life, from receipt to ack.
pub(crate) async fn live(stations: Arc<Stations>, delivery: Delivery) {
    let received = Instant::now();
    stations.counts.deliveries.add_one();

    let (assignment, unknown) = match Assignment::from_message_with_unknown(&delivery.message) {
        Ok(read) => read,
        Err(error) => {
            set_aside(&stations, &delivery, &error).await;
            delivery.ack().await;
            return;
        }
    };
    let deadline = received + Duration::from_millis(assignment.budget_ms).min(BUDGET_MAX);

    let station = stations.find(assignment.model_digest);
    // The model is unloaded once it has no assignment in hand.
    let _in_hand = station.as_ref().ok().map(|station| station.in_hand.token());
    let place = station.as_ref().ok().and_then(|station| station.place());
    let asked = Asked { assignment, deadline, received, redelivered: delivery.redelivered };
    let (outcome, stop) = match &station {
        // Answered without these fields, it would be an answer to a different question.
        _ if !unknown.is_empty() => (Err(Refused::unsupported(&unknown)), &stations.giving_back),
        Ok(station) if place.is_none() => (
            Err(Refused::busy("as many assignments of the model are in hand as may be")),
            &station.giving_back,
        ),
        Ok(station) if !can_do(station, &asked.assignment) => {
            (Err(Refused::beyond_the_engine()), &station.giving_back)
        }
        Ok(station) => (find_answer(&stations, station, &asked).await, &station.giving_back),
        Err(refused) => (from_before(&stations, &asked.assignment, refused), &stations.giving_back),
    };
    match outcome {
        Ok(answer) => {
            let published = stations.publisher.answer(&asked.assignment, &answer, deadline, stop).await;
            if !published && stations.giving_back.is_cancelled() {
                // The delivery stays unsettled, so that the queue keeps it when this worker goes.
                return;
            }
            if !published {
                // Its model goes and the worker stays: the answer is found in the cache.
                stations.counts.unpublished.add_one();
            }
        }
        Err(refused) => stations.publisher.refuse(&asked.assignment, &refused).await,
    }
    // Before the ack, upon which the broker sends the next delivery.
    drop(place);
    if !delivery.ack().await {
        // The assignment comes again, and finds its answer in the cache.
        tracing::info!(assignment = %asked.assignment.id, "acked too late; the broker gives it out again");
    }
}

/// An assignment as it was received.
#[derive(Clone)]
struct Asked {
    assignment: Assignment,
    /// When its budget ends.
    deadline: Instant,
    received: Instant,
    redelivered: bool,
}

/// Returns whether the model's engine can do all that an assignment asks for. A verifier may have drawn the node for what it
/// announced with another engine.
fn can_do(station: &Station, assignment: &Assignment) -> bool {
    let features = &station.desk.model().features;
    let needs_choice = assignment.choice > 0 && !features.has(Feature::Sampling2);
    features.include(&Features::needed(&assignment.request)) && !needs_choice
}

/// Returns the answer to an assignment whose model is served: one that is there, or one that a run makes.
async fn find_answer(stations: &Arc<Stations>, station: &Arc<Station>, asked: &Asked) -> Outcome {
    match enter(stations, station, asked) {
        Entered::Answered(answer) => {
            stations.counts.from_cache.add_one();
            Ok(answer)
        }
        Entered::Running(run) => {
            stations.counts.joined.add_one();
            wait(station, run, asked.deadline).await
        }
        Entered::Seated(seat, run, placement) => {
            let (shared, own) = (Arc::clone(stations), Arc::clone(station));
            let running = run_in_seat(shared, own, asked.clone(), seat, placement);
            station.runs.spawn(running.instrument(info_span!(target: trace::TARGET, "run")));
            wait(station, run, asked.deadline).await
        }
        Entered::Refused(refused) => Err(refused),
    }
}

/// Returns the answer that was made while the model was still served.
fn from_before(stations: &Stations, assignment: &Assignment, refused: &Refused) -> Outcome {
    let answer = stations.cache.get(&AnswerKey::of(assignment)).ok_or_else(|| refused.clone())?;
    stations.counts.from_cache.add_one();
    Ok(answer)
}

/// Parks a message that a newer program sent. Drops a message that can't be read, and counts it.
async fn set_aside(stations: &Stations, delivery: &Delivery, error: &DecodeError) {
    if error.is_parked() {
        stations.publisher.park(&delivery.message, &error.to_string()).await;
    } else {
        stations.counts.malformed.add_one();
        tracing::warn!(id = delivery.message.id, %error, "message dropped");
    }
}

fn enter(stations: &Stations, station: &Station, asked: &Asked) -> Entered {
    station.desk.enter(AnswerKey::of(&asked.assignment), |free_slots| {
        admit(Situation {
            draining: station.draining.is_cancelled(),
            engine_gone: *station.executor.health().borrow() != Health::Ready,
            budget_over: Instant::now() >= asked.deadline,
            redelivered: asked.redelivered,
            tried_alone: stations.tried_alone.contains(asked.assignment.id),
            free_slots,
        })
    })
}

/// Waits for a run's outcome until the assignment's budget ends or the worker gives back what runs.
async fn wait(station: &Station, mut run: OutcomeReceiver, deadline: Instant) -> Outcome {
    tokio::select! {
        biased;
        outcome = run.wait_for(Option::is_some) => match outcome.ok().and_then(|outcome| outcome.clone()) {
            Some(outcome) => outcome,
            None => Err(Refused::broken("the run ended without an outcome")),
        },
        () = tokio::time::sleep_until(deadline) => Err(Refused::expired()),
        () = station.giving_back.cancelled() => Err(Refused::draining()),
    }
}

/// Carries out a run that has a slot, to its end or until no assignment waits for it.
async fn run_in_seat(
    stations: Arc<Stations>,
    station: Arc<Station>,
    asked: Asked,
    seat: Seat,
    placement: Placement,
) {
    let outcome = {
        let mut running = pin!(run(&stations, &station, &asked, placement));
        tokio::select! {
            biased;
            outcome = &mut running => outcome,
            () = seat.abandoned() => return,
        }
    };
    if placement == Placement::Alone && outcome.is_ok() {
        // If the id stayed remembered, the assignment would be refused if it came again after the cache had dropped
        // its answer.
        let forgotten = stations.tried_alone.forget(asked.assignment.id).await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, "the file of assignments run alone can't be written");
        }
    }
    seat.finish(outcome.map(Arc::new));
}

/// Turns the assignment's prompt into its answer.
async fn run(
    stations: &Stations,
    station: &Station,
    asked: &Asked,
    placement: Placement,
) -> Result<Answer, Refused> {
    let Asked { assignment, received, .. } = asked;
    stations.counts.run.add_one();
    let alone = placement == Placement::Alone;
    if alone {
        stations.counts.run_alone.add_one();
        // The id is written down before the run, which could otherwise kill this process again and again.
        let remembered = stations.tried_alone.remember(assignment.id).await;
        remembered.map_err(|error| Refused::broken(format!("can't note a run alone: {error}")))?;
    }

    let request = &assignment.request;
    let rendered = station.tokenizer.render(request.messages.clone(), assignment.now_ms).await;
    let prompt = rendered.map_err(|error| Refused::broken(error.to_string()))?;
    let prompt_tokens = prompt.len();
    let prompt_hash = prompt_hash(&prompt);
    let answer_tokens_max = answer_room(prompt_tokens, request.max_tokens, station.context_max)?;

    let work = Work {
        prompt,
        answer_tokens_max,
        temperature: request.temperature,
        sample_key: assignment.sample_key,
        choice: assignment.choice,
        knobs: request.knobs.clone(),
        top_logprobs: request.top_logprobs,
        alone,
        cache_scope: assignment.cache_scope,
    };
    let running = station.executor.run_watched(work, watcher(station, &request.knobs));
    let decoded = running.await.map_err(|error| Refused::broken(error.to_string()))?;

    let queued = decoded.started.saturating_duration_since(received.into_std());
    let decoding = decoded.ended.saturating_duration_since(decoded.started);
    histogram!(WORKER_QUEUE_WAIT, "model" => station.name().to_string()).record(queued);
    histogram!(WORKER_DECODE, "model" => station.name().to_string()).record(decoding);
    let text = station.tokenizer.answer_text(decoded.tokens.clone(), &request.knobs).await;
    let text = text.map_err(|error| Refused::broken(error.to_string()))?;
    Ok(Answer {
        numeric_class: Arc::clone(&station.desk.model().numeric_class),
        prompt_hash,
        prompt_tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX),
        cached_tokens: u32::try_from(decoded.cached_tokens).unwrap_or(u32::MAX),
        tokens: decoded.tokens,
        text,
        finish_reason: decoded.finish_reason,
        numbers: decoded.numbers,
        timing: ReplicaTiming { queued_ms: whole_ms(queued), decode_ms: whole_ms(decoding) },
    })
}

/// Returns what ends an answer at its stop strings; none where there are none, so that nothing is done for each token.
fn watcher(station: &Station, knobs: &Knobs) -> Option<Watcher> {
    if knobs.stop.is_empty() {
        return None;
    }
    let mut text = station.tokenizer.answer_stream(knobs);
    Some(Box::new(move |token| {
        text.push(token).map(|cut| cut.is_complete).map_err(|error| error.to_string())
    }))
}

/// Returns how many tokens the answer may have: as many as were asked for, but no more than the prompt leaves of the
/// context.
fn answer_room(prompt_tokens: usize, max_tokens: u32, context_max: usize) -> Result<usize, Refused> {
    let left = context_max.saturating_sub(prompt_tokens);
    let asked = usize::try_from(max_tokens).unwrap_or(usize::MAX);
    match left.min(asked) {
        0 => Err(Refused::new(
            RefusalReason::Broken,
            format!("no room for an answer: {prompt_tokens} of {context_max} tokens are the prompt's"),
        )),
        room => Ok(room),
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gets_what_was_asked_or_what_is_left() {
        let cases =
            [(10, 5, 512, Some(5)), (510, 5, 512, Some(2)), (511, 5, 512, Some(1)), (1, 0, 512, None)];
        for (prompt, asked, context, room) in cases {
            assert_eq!(answer_room(prompt, asked, context).ok(), room, "{prompt} {asked} {context}");
        }
        for too_long in [512, 513, usize::MAX] {
            assert_eq!(answer_room(too_long, 5, 512).unwrap_err().reason, RefusalReason::Broken);
        }
    }
}
