//! Who may be connected: so many connections in all, and so many of one address. Who comes when all places are taken gets
//! the place of the connection that has been idle for the longest; one that has its share loses the longest idle of its
//! own. A connection in the middle of a request is never asked to go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::meters::Meters;
use crate::network::Network;
use crate::patience::Patience;

/// Descriptors that are kept for everything but clients: ledger (eleven connections to PostgreSQL, or SQLite's files),
/// broker, archive, logs, operators (32), and those who wait for a place.
const RESERVED_DESCRIPTORS: usize = 256;

/// With no idle connection to be found it is looked again after this: connections become idle without telling.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Longest idle connections that one look finds. The next ones who come need no other.
const CANDIDATES: usize = 64;

/// An episode is over when nothing of it happened for so long.
const EPISODE: Duration = Duration::from_secs(60);

/// Connections of clients that fit: those that the setting allows, as far as there are descriptors, of which a reserve,
/// half of them at most, is kept back.
pub(crate) fn fitting(wanted: usize, descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let reserve = RESERVED_DESCRIPTORS.min(descriptors / 2);
    wanted.min(descriptors - reserve).max(1)
}

/// Connections that one address may have: those that the setting allows (0: all), and half of all at most, so that no
/// address alone can take every place.
pub(crate) fn share(wanted: usize, places: usize) -> usize {
    if wanted == 0 { places } else { wanted.min(places / 2).max(1) }
}

/// The address has its share of connections, and each is in the middle of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareTaken;

/// All places of a gateway.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    share: usize,
    table: Mutex<Table>,
    freed: Notify,
    meters: Arc<Meters>,
}

/// One place. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
}

#[derive(Debug, Default)]
struct Table {
    holders: HashMap<u64, Holder>,
    /// Connections of each address that is counted.
    of_network: HashMap<Network, Vec<u64>>,
    /// Those that a look found, the longest idle first, and since when.
    candidates: VecDeque<(Instant, u64)>,
    /// A look found none until here.
    none_until: Option<Instant>,
    next_id: u64,
    crowded: Episode,
    greedy: Episode,
}

#[derive(Debug)]
struct Holder {
    patience: Arc<Patience>,
    network: Option<Network>,
}

/// Something that happens again and again, and is said once.
#[derive(Debug, Default)]
pub(crate) struct Episode {
    last: Option<Instant>,
}

impl Episode {
    /// It happened; whether it is to be said.
    pub(crate) fn begins(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.duration_since(last) > EPISODE)
    }
}

impl Places {
    /// So many places, and so many for one address.
    pub(crate) fn new(max: usize, share: usize, meters: Arc<Meters>) -> Arc<Self> {
        meters.places(max);
        Arc::new(Self { max, share, table: Mutex::default(), freed: Notify::new(), meters })
    }

    /// A place for a connection, waited for while all are taken by connections in the middle of a request. `network` is
    /// whom it counts for; none: for nobody.
    ///
    /// # Errors
    /// [`ShareTaken`].
    pub(crate) async fn enter(
        self: &Arc<Self>,
        network: Option<Network>,
        patience: &Arc<Patience>,
    ) -> Result<Place, ShareTaken> {
        loop {
            let freed = self.freed.notified();
            if let Some(id) = self.admit(network, patience, Instant::now())? {
                self.meters.connected(1);
                return Ok(Place { places: Arc::clone(self), id });
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// The new place's id; none: all are taken.
    fn admit(
        &self,
        network: Option<Network>,
        patience: &Arc<Patience>,
        now: Instant,
    ) -> Result<Option<u64>, ShareTaken> {
        let mut table = self.table();
        if let Some(network) = network
            && table.count(network) >= self.share
        {
            let begins = table.greedy.begins(now);
            if begins {
                let share = self.share;
                tracing::warn!(%network, share, "an address has its share of connections; its longest idle are closed for its new ones, and without an idle one those are refused");
            }
            let Some(id) = table.longest_idle_of(network) else {
                self.meters.connection_refused("share");
                return Err(ShareTaken);
            };
            table.send_away(id);
            self.meters.sent_away("share");
        }
        if table.holders.len() >= self.max {
            if table.crowded.begins(now) {
                let places = self.max;
                tracing::warn!(
                    places,
                    "all places for connections are taken; the longest idle are closed for new ones, and without an idle one those wait"
                );
            }
            let Some(id) = table.longest_idle(now) else { return Ok(None) };
            table.send_away(id);
            self.meters.sent_away("all");
        }
        Ok(Some(table.add(Holder { patience: Arc::clone(patience), network })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&self, network: Network) -> usize {
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

    /// Its place is free; whether it had one.
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

    /// Takes its place at once; closing it is its own task's matter, and takes no longer than that task's next turn.
    fn send_away(&mut self, id: u64) {
        if let Some(holder) = self.remove(id) {
            holder.patience.send_away();
        }
    }

    fn longest_idle_of(&self, network: Network) -> Option<u64> {
        let ids = self.of_network.get(&network)?.iter();
        let idle = ids.filter_map(|id| Some((self.holders.get(id)?.patience.idle_since()?, *id)));
        idle.min().map(|(_, id)| id)
    }

    /// The longest idle of all. A look at all of them finds several, because who comes to a full gateway rarely comes
    /// alone; whoever becomes idle afterwards is idle for a shorter time than those.
    fn longest_idle(&mut self, now: Instant) -> Option<u64> {
        while let Some((since, id)) = self.candidates.pop_front() {
            if self.holders.get(&id).is_some_and(|holder| holder.patience.idle_since() == Some(since)) {
                return Some(id);
            }
        }
        if self.none_until.is_some_and(|until| now < until) {
            return None;
        }
        let all = self.holders.iter();
        let mut idle: Vec<_> =
            all.filter_map(|(id, holder)| Some((holder.patience.idle_since()?, *id))).collect();
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
        self.places.meters.connected(-1);
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
        // Wanted, the limit, what comes of it.
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

    /// A place and its connection's clock, which has been idle since now.
    async fn enter(places: &Arc<Places>, network: Option<Network>) -> Option<(Place, Arc<Patience>)> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let patience = Patience::begin(Duration::from_secs(15), Duration::from_secs(95));
        let place = tokio::time::timeout(Duration::from_secs(1), places.enter(network, &patience)).await;
        place.ok()?.ok().map(|place| (place, patience))
    }

    fn network(text: &str) -> Option<Network> {
        Some(text.parse::<std::net::IpAddr>().unwrap().into())
    }

    async fn is_sent_away(patience: &Patience) -> bool {
        tokio::time::timeout(Duration::from_millis(1), patience.sent_away()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_makes_room_and_the_busy_never_do() {
        let places = Places::new(200, 200, Arc::default());
        let mut all = Vec::new();
        for _ in 0..200 {
            all.push(enter(&places, None).await.unwrap());
        }
        // Every second one is busy; of the rest, the first has just had a reply.
        for (_, patience) in all.iter().skip(1).step_by(2) {
            patience.serve();
        }
        all[0].1.serve();
        all[0].1.rest();
        all[0].1.written();
        // More than one look finds.
        for round in 1..100 {
            let newcomer = enter(&places, None).await.unwrap();
            newcomer.1.serve();
            all.push(newcomer);
            assert!(is_sent_away(&all[2 * round].1).await, "{round}");
        }
        assert!(!is_sent_away(&all[0].1).await);
        all.push(enter(&places, None).await.unwrap());
        assert!(is_sent_away(&all[0].1).await, "at last");
        all.last().unwrap().1.serve();
        assert!(enter(&places, None).await.is_none(), "all are busy");
        // A reply that isn't written yet is a request that isn't over.
        all[1].1.rest();
        assert!(enter(&places, None).await.is_none(), "and one is being answered");
        all[1].1.written();
        assert!(enter(&places, None).await.is_some());
        for (at, (_, patience)) in all.iter().enumerate().skip(3).step_by(2).take(98) {
            assert!(!is_sent_away(patience).await, "{at} was busy");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_is_had_at_once() {
        let places = Places::new(1, 1, Arc::default());
        let (place, patience) = enter(&places, None).await.unwrap();
        patience.serve();
        let (waiting, freeing) = tokio::join!(enter(&places, None), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(place);
        });
        assert!(waiting.is_some());
        let () = freeing;
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_loses_its_own_and_nobody_elses() {
        let places = Places::new(100, 2, Arc::default());
        let theirs = enter(&places, network("192.0.2.1")).await.unwrap();
        let first = enter(&places, network("2001:db8::1")).await.unwrap();
        let second = enter(&places, network("2001:db8::2")).await.unwrap();
        let _other = enter(&places, network("2001:db8:0:1::1")).await.unwrap();
        let third = enter(&places, network("2001:db8::3")).await.unwrap();
        assert!(is_sent_away(&first.1).await, "one /64 is one address");
        assert!(!is_sent_away(&theirs.1).await && !is_sent_away(&second.1).await);
        second.1.serve();
        third.1.serve();
        let patience = Patience::begin(Duration::from_secs(15), Duration::from_secs(95));
        let refused = places.enter(network("2001:db8::4"), &patience).await;
        assert_eq!(refused.err(), Some(ShareTaken));
        for _ in 0..10 {
            enter(&places, None).await.unwrap();
        }
        drop(second);
        assert!(enter(&places, network("2001:db8::4")).await.is_some(), "a place came back");
        assert!(!is_sent_away(&theirs.1).await);
    }
}
