//! Bounds the number of connections, in all and for each address. When all places are taken, a new connection gets
//! the place of the one that has been idle for the longest. When its address has used up its share, it gets the place
//! of that address's own longest idle one. A connection in the middle of a request is never closed for another.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::access::ClientNetwork;
use crate::http::timeouts::Timeouts;
use crate::metrics::ConnectionMetrics;

/// The file descriptors that are reserved for everything but clients' connections: the ledger (eleven connections to
/// PostgreSQL, or SQLite's files), broker, archive, logs, operators (32), and connections that wait for a place (64).
const RESERVED_DESCRIPTORS: usize = 256;

/// The time between two searches for an idle connection if the first found none. Connections become idle without a
/// signal.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The number of longest idle connections that one search keeps, so that the next newcomers need no search of their
/// own.
const CANDIDATES: usize = 64;

/// The time without a repetition after which an episode is over.
const EPISODE: Duration = Duration::from_secs(60);

/// Returns how many connections fit: as many as are wanted, but no more than the limit on file descriptors leaves
/// beside the reserve. The reserve takes at most half of the limit.
pub(crate) fn fitting(wanted: usize, descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let reserve = RESERVED_DESCRIPTORS.min(descriptors / 2);
    wanted.min(descriptors - reserve).max(1)
}

/// Returns how many connections one address may have: as many as are wanted (0 means all places), but at most half of
/// all places, so that no single address can take all of them.
pub(crate) fn share(wanted: usize, places: usize) -> usize {
    if wanted == 0 { places } else { wanted.min(places / 2).max(1) }
}

/// The error of an address that has used up its share of connections, each of which is in the middle of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareTaken;

/// All places of a gateway.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    share: usize,
    table: Mutex<Table>,
    freed: Notify,
    metrics: ConnectionMetrics,
}

/// One place, which is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
}

#[derive(Debug, Default)]
struct Table {
    holders: HashMap<u64, Holder>,
    /// The connections of each address that is counted.
    of_network: HashMap<ClientNetwork, Vec<u64>>,
    /// The connections that the last search found, the longest idle first, each with the time since which it has been
    /// idle.
    candidates: VecDeque<(Instant, u64)>,
    /// The time before which there is no new search, because the last one found nothing.
    none_until: Option<Instant>,
    next_id: u64,
    crowded: Episode,
    greedy: Episode,
}

#[derive(Debug)]
struct Holder {
    timeouts: Arc<Timeouts>,
    network: Option<ClientNetwork>,
}

/// Finds the first of a series of repeated events, so that the series is logged once.
#[derive(Debug, Default)]
pub(crate) struct Episode {
    last: Option<Instant>,
}

impl Episode {
    /// Notes an event, and returns whether it begins an episode.
    pub(crate) fn begins(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.duration_since(last) > EPISODE)
    }
}

impl Places {
    /// Makes `max` places, of which one address may have `share`.
    pub(crate) fn new(max: usize, share: usize, metrics: ConnectionMetrics) -> Arc<Self> {
        metrics.places(max);
        Arc::new(Self { max, share, table: Mutex::default(), freed: Notify::new(), metrics })
    }

    /// Takes a place for a connection; waits while all places are taken by connections in the middle of a request.
    /// The connection counts towards the share of `network`, or towards no share if there is none.
    ///
    /// # Errors
    /// [`ShareTaken`].
    pub(crate) async fn enter(
        self: &Arc<Self>,
        network: Option<ClientNetwork>,
        timeouts: &Arc<Timeouts>,
    ) -> Result<Place, ShareTaken> {
        loop {
            let freed = self.freed.notified();
            if let Some(id) = self.admit(network, timeouts, Instant::now())? {
                self.metrics.changed(1);
                return Ok(Place { places: Arc::clone(self), id });
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Returns the new place's id, or none while all places are taken.
    fn admit(
        &self,
        network: Option<ClientNetwork>,
        timeouts: &Arc<Timeouts>,
        now: Instant,
    ) -> Result<Option<u64>, ShareTaken> {
        let mut table = self.table();
        if let Some(network) = network
            && table.count(network) >= self.share
        {
            let begins = table.greedy.begins(now);
            if begins {
                let share = self.share;
                tracing::warn!(%network, share, "an address has used up its share of connections: its longest idle \
                                                 ones are closed for new ones; if none is idle, new ones are \
                                                 refused");
            }
            let Some(id) = table.longest_idle_of(network) else {
                self.metrics.refused("share");
                return Err(ShareTaken);
            };
            table.send_away(id);
            self.metrics.sent_away("share");
        }
        if table.holders.len() >= self.max {
            if table.crowded.begins(now) {
                let places = self.max;
                tracing::warn!(
                    places,
                    "all places for connections are taken: the longest idle ones are closed for new ones; if none is \
                     idle, new ones wait"
                );
            }
            let Some(id) = table.longest_idle(now) else { return Ok(None) };
            table.send_away(id);
            self.metrics.sent_away("all");
        }
        Ok(Some(table.add(Holder { timeouts: Arc::clone(timeouts), network })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&self, network: ClientNetwork) -> usize {
        self.of_network.get(&network).map_or(0, Vec::len)
    }

    fn add(&mut self, holder: Holder) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(network) = holder.network {
            self.of_network.entry(network).or_default().push(id);
        }
        self.holders.insert(id, holder);
        id
    }

    /// Frees a place, and returns what it held.
    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.holders.remove(&id)?;
        if let Some(network) = holder.network
            && let Some(ids) = self.of_network.get_mut(&network)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.of_network.remove(&network);
            }
        }
        Some(holder)
    }

    /// Frees a place at once. The task of its connection closes the connection when it runs next.
    fn send_away(&mut self, id: u64) {
        if let Some(holder) = self.remove(id) {
            holder.timeouts.send_away();
        }
    }

    fn longest_idle_of(&self, network: ClientNetwork) -> Option<u64> {
        let ids = self.of_network.get(&network)?.iter();
        let idle = ids.filter_map(|id| Some((self.holders.get(id)?.timeouts.idle_since()?, *id)));
        idle.min().map(|(_, id)| id)
    }

    /// Returns the longest idle connection of all. One search keeps several of them, because newcomers to a full
    /// gateway rarely come alone. Connections that become idle later have been idle for a shorter time than those.
    fn longest_idle(&mut self, now: Instant) -> Option<u64> {
        while let Some((since, id)) = self.candidates.pop_front() {
            if self.holders.get(&id).is_some_and(|holder| holder.timeouts.idle_since() == Some(since)) {
                return Some(id);
            }
        }
        if self.none_until.is_some_and(|until| now < until) {
            return None;
        }
        let all = self.holders.iter();
        let mut idle: Vec<_> =
            all.filter_map(|(id, holder)| Some((holder.timeouts.idle_since()?, *id))).collect();
        if idle.len() > CANDIDATES {
            idle.select_nth_unstable(CANDIDATES);
            idle.truncate(CANDIDATES);
        }
        idle.sort_unstable();
        self.candidates = idle.into();
        self.none_until = self.candidates.is_empty().then(|| now + LOOK_AGAIN);
        self.candidates.pop_front().map(|(_, id)| id)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.metrics.changed(-1);
        if self.places.table().remove(self.id).is_some() {
            self.places.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_leave_room_for_what_the_gateway_itself_opens() {
        // The number that is wanted, the limit, and the number that fits.
        for (wanted, descriptors, expected) in [
            (10_000, None, 10_000),
            (10_000, Some(u64::MAX), 10_000),
            (10_000, Some(1_048_576), 10_000),
            (10_000, Some(10_256), 10_000),
            (10_000, Some(10_255), 9_999),
            (10_000, Some(1_024), 768),
            (500, Some(1_024), 500),
            // Small limits are halved rather than used up by the reserve.
            (10_000, Some(512), 256),
            (10_000, Some(64), 32),
            (10_000, Some(1), 1),
            (10_000, Some(0), 1),
            (0, None, 1),
        ] {
            assert_eq!(fitting(wanted, descriptors), expected, "{wanted} of {descriptors:?}");
        }
    }

    #[test]
    fn an_address_never_has_more_than_half() {
        for (wanted, places, expected) in [
            (2_500, 10_000, 2_500),
            (2_500, 768, 384),
            (9_000, 10_000, 5_000),
            (1, 10_000, 1),
            (0, 10_000, 10_000),
            (2_500, 1, 1),
        ] {
            assert_eq!(share(wanted, places), expected, "{wanted} of {places}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_episode_is_said_once() {
        let mut episode = Episode::default();
        let said = async |episode: &mut Episode, after_s| {
            tokio::time::sleep(Duration::from_secs(after_s)).await;
            episode.begins(Instant::now())
        };
        for (after_s, expected) in [(0, true), (1, false), (59, false), (60, false), (61, true), (1, false)] {
            assert_eq!(said(&mut episode, after_s).await, expected, "{after_s} s after the last");
        }
    }

    /// Takes a place for a connection that is idle from now on.
    async fn enter(places: &Arc<Places>, network: Option<ClientNetwork>) -> Option<(Place, Arc<Timeouts>)> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let timeouts = Timeouts::begin(Duration::from_secs(15), Duration::from_secs(95));
        let place = tokio::time::timeout(Duration::from_secs(1), places.enter(network, &timeouts)).await;
        place.ok()?.ok().map(|place| (place, timeouts))
    }

    fn network(text: &str) -> Option<ClientNetwork> {
        Some(text.parse::<std::net::IpAddr>().unwrap().into())
    }

    async fn is_sent_away(timeouts: &Timeouts) -> bool {
        tokio::time::timeout(Duration::from_millis(1), timeouts.sent_away()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_makes_room_and_the_busy_never_do() {
        let places = Places::new(200, 200, ConnectionMetrics::default());
        let mut all = Vec::new();
        for _ in 0..200 {
            all.push(enter(&places, None).await.unwrap());
        }
        // Every second one is busy, and the first of the others has just had a reply.
        for (_, timeouts) in all.iter().skip(1).step_by(2) {
            timeouts.request_came();
        }
        all[0].1.request_came();
        all[0].1.replied();
        all[0].1.written();
        // One search doesn't keep as many as these.
        for round in 1..100 {
            let newcomer = enter(&places, None).await.unwrap();
            newcomer.1.request_came();
            all.push(newcomer);
            assert!(is_sent_away(&all[2 * round].1).await, "{round}");
        }
        assert!(!is_sent_away(&all[0].1).await);
        all.push(enter(&places, None).await.unwrap());
        assert!(is_sent_away(&all[0].1).await, "at last");
        all.last().unwrap().1.request_came();
        assert!(enter(&places, None).await.is_none(), "all are busy");
        // A request whose reply isn't written yet is still in progress.
        all[1].1.replied();
        assert!(enter(&places, None).await.is_none(), "and one is being answered");
        all[1].1.written();
        assert!(enter(&places, None).await.is_some());
        for (at, (_, timeouts)) in all.iter().enumerate().skip(3).step_by(2).take(98) {
            assert!(!is_sent_away(timeouts).await, "{at} was busy");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_is_had_at_once() {
        let places = Places::new(1, 1, ConnectionMetrics::default());
        let (place, timeouts) = enter(&places, None).await.unwrap();
        timeouts.request_came();
        let (waiting, freeing) = tokio::join!(enter(&places, None), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(place);
        });
        assert!(waiting.is_some());
        let () = freeing;
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_loses_its_own_and_nobody_elses() {
        let places = Places::new(100, 2, ConnectionMetrics::default());
        let theirs = enter(&places, network("192.0.2.1")).await.unwrap();
        let first = enter(&places, network("2001:db8::1")).await.unwrap();
        let second = enter(&places, network("2001:db8::2")).await.unwrap();
        let _other = enter(&places, network("2001:db8:0:1::1")).await.unwrap();
        let third = enter(&places, network("2001:db8::3")).await.unwrap();
        assert!(is_sent_away(&first.1).await, "one /64 is one address");
        assert!(!is_sent_away(&theirs.1).await && !is_sent_away(&second.1).await);
        second.1.request_came();
        third.1.request_came();
        let timeouts = Timeouts::begin(Duration::from_secs(15), Duration::from_secs(95));
        let refused = places.enter(network("2001:db8::4"), &timeouts).await;
        assert_eq!(refused.err(), Some(ShareTaken));
        for _ in 0..10 {
            enter(&places, None).await.unwrap();
        }
        drop(second);
        assert!(enter(&places, network("2001:db8::4")).await.is_some(), "a place came back");
        assert!(!is_sent_away(&theirs.1).await);
    }
}
