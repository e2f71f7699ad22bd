//! Streams: their items, how far they read ahead, and how they end.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use prodigy_storage::{AsyncRepo, ErrorKind, FollowOptions, ReadOptions};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::support::{on_each, poll_once, until};

#[test]
fn each_event_has_the_position_behind_it_and_the_stream_ends() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events.append_batch(0..300).await.unwrap();
        let mut read = events.read::<usize>().await.unwrap();
        let mut cursors = vec![read.cursor()];
        while let Some(event) = read.next().await {
            let event = event.unwrap();
            assert_eq!(event.event.event, cursors.len() - 1);
            assert_eq!(read.cursor(), event.cursor);
            cursors.push(event.cursor);
        }
        assert_eq!(cursors.len(), 301);
        assert!(read.next().await.is_none());
        for at in [0, 1, 127, 128, 129, 299] {
            let options = ReadOptions::after(cursors[at].clone());
            let next = events.read_with::<usize>(options).await.unwrap().next().await;
            assert_eq!(next.unwrap().unwrap().event.event, at);
        }
        let options = ReadOptions::after(cursors[300].clone());
        assert!(
            events
                .read_with::<usize>(options)
                .await
                .unwrap()
                .next()
                .await
                .is_none()
        );
        let mut tail = events.tail::<usize>(2).await.unwrap();
        assert_eq!(tail.next().await.unwrap().unwrap().event.event, 298);
        let options = ReadOptions::after(events.end().await.unwrap());
        assert!(
            events
                .read_with::<usize>(options)
                .await
                .unwrap()
                .next()
                .await
                .is_none()
        );
    });
}

#[test]
fn an_event_of_another_type_is_an_error_and_the_stream_goes_on() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events
            .append_batch([json!(1), json!("two"), json!(3)])
            .await
            .unwrap();
        let mut read = events.read::<u32>().await.unwrap();
        assert_eq!(read.next().await.unwrap().unwrap().event.event, 1);
        let before = read.cursor();
        assert_eq!(
            read.next().await.unwrap().unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_ne!(read.cursor(), before);
        assert_eq!(read.next().await.unwrap().unwrap().event.event, 3);
        assert!(read.next().await.is_none());
    });
}

static LOADED: AtomicUsize = AtomicUsize::new(0);

/// Counts how many values were deserialised. Only one test may use it, since the counter is global.
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LOADED.fetch_add(1, Ordering::SeqCst);
        Value::deserialize(deserializer).map(|_| Self)
    }
}

#[test]
fn a_stream_reads_a_bounded_number_of_events_and_bytes_ahead() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events.append_batch(0..1_000).await.unwrap();
        LOADED.store(0, Ordering::SeqCst);
        let mut read = events.read::<Counted>().await.unwrap();
        for taken in 1..=200 {
            read.next().await.unwrap().unwrap();
            let loaded = LOADED.load(Ordering::SeqCst);
            assert!((taken..taken + 128).contains(&loaded), "{loaded} of {taken}");
        }
        drop(read);
        LOADED.store(0, Ordering::SeqCst);
        let mut follow = events.follow::<Counted>(None).await.unwrap();
        for taken in 1..=200 {
            follow.next().await.unwrap().unwrap();
            let loaded = LOADED.load(Ordering::SeqCst);
            assert!((taken..taken + 128).contains(&loaded), "{loaded} of {taken}");
        }
        drop(follow);
        let large = "x".repeat(100_000);
        events
            .append_batch(std::iter::repeat_n(&large, 30))
            .await
            .unwrap();
        LOADED.store(0, Ordering::SeqCst);
        let mut tail = events.tail::<Counted>(30).await.unwrap();
        tail.next().await.unwrap().unwrap();
        assert_eq!(LOADED.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn dropping_the_future_of_the_next_item_loses_nothing() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events.append_batch(0..500).await.unwrap();
        let mut read = events.read::<usize>().await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 500 {
            let next = poll_once(&mut Box::pin(read.next()));
            match next {
                Poll::Ready(event) => seen.push(event.unwrap().unwrap().event.event),
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn a_stream_is_one_of_the_ecosystem() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events.append("one").await.unwrap();
        let mut read = pin!(events.read::<String>().await.unwrap());
        let mut jobs = pin!(tasks.storage.repo("shop").unwrap().jobs());
        let mut context = Context::from_waker(Waker::noop());
        let (mut texts, mut ids) = (Vec::new(), Vec::new());
        until(|| match read.as_mut().poll_next(&mut context) {
            Poll::Ready(Some(event)) => {
                texts.push(event.unwrap().event.event);
                false
            }
            Poll::Ready(None) => true,
            Poll::Pending => false,
        });
        until(|| match jobs.as_mut().poll_next(&mut context) {
            Poll::Ready(Some(id)) => {
                ids.push(id.unwrap().to_string());
                false
            }
            Poll::Ready(None) => true,
            Poll::Pending => false,
        });
        assert_eq!((texts, ids), (vec!["one".to_owned()], vec!["job-1".to_owned()]));
    });
}

#[test]
fn a_follow_gives_what_is_stored_and_then_what_comes() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events.append(&0).await.unwrap();
        let mut follow = events.follow::<usize>(None).await.unwrap();
        assert_eq!(follow.next().await.unwrap().unwrap().event.event, 0);
        // The future is dropped while it waits for an item.
        assert!(poll_once(&mut Box::pin(follow.next())).is_pending());
        let writer = tokio::spawn({
            let events = events.clone();
            async move {
                for n in 1..100 {
                    events.append(&n).await.unwrap();
                }
            }
        });
        let mut last = follow.cursor();
        for n in 1..100 {
            let event = follow.next().await.unwrap().unwrap();
            assert_eq!(event.event.event, n);
            last = event.cursor;
        }
        writer.await.unwrap();
        assert_eq!(follow.cursor(), last);
        let mut again = events.follow::<usize>(Some(last)).await.unwrap();
        events.append(&100).await.unwrap();
        assert_eq!(again.next().await.unwrap().unwrap().event.event, 100);
    });
}

#[test]
fn a_follow_ends_when_it_is_stopped_or_nothing_comes_for_as_long_as_it_waits() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        events.append(&0).await.unwrap();
        let mut follow = events.follow::<usize>(None).await.unwrap();
        let handle = follow.handle();
        let reader = tokio::spawn(async move {
            let mut seen = 0;
            while let Some(event) = follow.next().await {
                event.unwrap();
                seen += 1;
            }
            seen
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        handle.stop();
        assert!(reader.await.unwrap() <= 1);
        let options = FollowOptions::new().wait(Duration::from_millis(10));
        let mut follow = events.follow_with::<usize>(options).await.unwrap();
        assert!(follow.next().await.unwrap().is_ok());
        assert!(follow.next().await.is_none());
        tasks.job().finish().await.unwrap();
        let options = FollowOptions::new().until_finished();
        let mut follow = events.follow_with::<usize>(options).await.unwrap();
        assert!(follow.next().await.unwrap().is_ok());
        assert!(follow.next().await.is_none());
    });
}

#[test]
fn a_follow_of_a_repository_or_of_the_store_gives_events_of_jobs_that_come_later() {
    on_each(async |tasks| {
        let shop = tasks.storage.repo("shop").unwrap();
        let store = tasks.storage.repo("store").unwrap();
        let append = async |repo: &AsyncRepo, job: &str, n: u32| {
            repo.job(job).unwrap().events().append(&n).await.unwrap();
        };
        append(&shop, "early", 0).await;
        let mut of_shop = shop.follow::<u32>(FollowOptions::new()).await.unwrap();
        let mut of_all = tasks.storage.follow::<u32>(FollowOptions::new()).await.unwrap();
        assert_eq!(of_shop.next().await.unwrap().unwrap().1.event, 0);
        assert_eq!(of_all.next().await.unwrap().unwrap().1.event, 0);
        append(&store, "late", 1).await;
        let (job, event) = of_all.next().await.unwrap().unwrap();
        assert_eq!((job.to_string().as_str(), event.event), ("store/late", 1));
        append(&shop, "later", 2).await;
        for follow in [&mut of_all, &mut of_shop] {
            let (job, event) = follow.next().await.unwrap().unwrap();
            assert_eq!((job.to_string().as_str(), event.event), ("shop/later", 2));
            follow.handle().stop();
            assert!(follow.next().await.is_none());
        }
    });
}

#[test]
fn many_follows_leave_the_threads_of_calls_free() {
    on_each(async |tasks| {
        let events = tasks.job().events();
        let mut follows = Vec::new();
        for _ in 0..30 {
            let mut follow = events.follow::<usize>(None).await.unwrap();
            assert!(poll_once(&mut Box::pin(follow.next())).is_pending());
            follows.push(follow);
        }
        // More follows wait than the handle has threads for calls.
        events.append(&7).await.unwrap();
        for follow in &mut follows {
            assert_eq!(follow.next().await.unwrap().unwrap().event.event, 7);
        }
    });
}
