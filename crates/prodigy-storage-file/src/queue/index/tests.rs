use prodigy_storage_backend::Uptime;

use super::super::standing::End;
use super::super::tests::support::Hand;
use super::*;

#[test]
fn an_item_takes_28_bytes() {
    assert_eq!(size_of::<Slot>(), 28);
    for number in [0, 1, 0xffff, 0x1_0000, 0x1234_5678_9abc, (1 << 48) - 1] {
        assert_eq!(U48::new(number).get(), number);
    }
}

fn index(births: impl IntoIterator<Item = u64>) -> Index {
    let mut index = Index::default();
    for birth in births {
        index.push(&item(birth, birth << 32));
    }
    index
}

fn item(birth: u64, hash: u64) -> NewItem {
    NewItem {
        birth,
        hash,
        location: Location {
            in_journal: false,
            offset: birth * 100,
            len: 100,
        },
        parked: false,
        odd: false,
        large: false,
        rough: false,
    }
}

fn ready(index: &mut Index) -> Vec<u64> {
    let mut walk = Walk::default();
    let mut found = Vec::new();
    while let Some(at) = index.next_ready(&mut walk) {
        found.push(index.birth(at));
    }
    found
}

fn leased(place: u64, token: u64, seconds: u64, boot: u128) -> Stand {
    let end = Uptime {
        boot: BootId::from_u128(boot),
        since: Duration::from_secs(seconds),
    };
    Stand {
        place,
        hold: Some((token, End::At(end))),
        text: Location::default(),
        taken: true,
    }
}

fn released(place: u64) -> Stand {
    Stand {
        place,
        hold: None,
        text: Location::default(),
        taken: false,
    }
}

#[test]
fn items_are_taken_in_the_order_of_their_places_and_come_back_when_a_lease_ends() {
    let clock = Hand::new(1);
    let mut index = index([1, 2, 3, 5, 9]);
    assert_eq!(ready(&mut index), [1, 2, 3, 5, 9]);
    let at = index.find(2).unwrap();
    index.stand(at, &leased(10, 77, 160, 1));
    assert_eq!(ready(&mut index), [1, 3, 5, 9]);
    let last = index.find(1).unwrap();
    index.stand(last, &released(11));
    assert_eq!(ready(&mut index), [3, 5, 9, 1]);
    clock.turn(59);
    index.wake(&clock);
    assert_eq!(ready(&mut index), [3, 5, 9, 1]);
    clock.turn(1);
    index.wake(&clock);
    assert_eq!(ready(&mut index), [3, 5, 9, 2, 1], "by its place");
    assert_eq!(
        index.with_token(77),
        Some(at),
        "the item is still found by its token"
    );
    let (third, fifth) = (index.find(3).unwrap(), index.find(5).unwrap());
    index.set(third, Flags::PARKED, true);
    index.remove(fifth);
    assert_eq!(ready(&mut index), [9, 2, 1]);
    index.set(third, Flags::PARKED, false);
    assert_eq!(ready(&mut index), [3, 9, 2, 1], "in its place");
    index.remove(at);
    assert_eq!(index.with_token(77), None);
    assert_eq!((index.len(), index.living_bytes()), (3, 300));
}

#[test]
fn another_boot_ends_every_lease_of_the_one_before() {
    let clock = Hand::new(1);
    let mut index = index([1, 2]);
    index.stand(0, &leased(3, 7, 1_000, 1));
    index.stand(1, &leased(4, 8, 1_000, 2));
    index.wake(&clock);
    assert_eq!(ready(&mut index), [2]);
    clock.reboot();
    index.wake(&clock);
    assert_eq!(ready(&mut index), [1, 2]);
}

#[test]
fn items_are_found_by_birth_and_by_id_whatever_their_number() {
    let births: Vec<u64> = (1..3_000).filter(|birth| birth % 7 != 0).collect();
    let mut index = index(births.iter().copied());
    for birth in 0..3_010 {
        let found = index.find(birth).map(|at| index.birth(at));
        assert_eq!(found, births.contains(&birth).then_some(birth));
        let found: Vec<u64> = index
            .with_hash(birth << 32)
            .into_iter()
            .map(|at| index.birth(at))
            .collect();
        assert_eq!(
            found,
            births
                .iter()
                .filter(|b| **b == birth)
                .copied()
                .collect::<Vec<_>>()
        );
    }
    let at = index.find(100).unwrap();
    index.remove(at);
    assert!(index.with_hash(100 << 32).is_empty());
    assert!(index.twins().is_empty());
}

#[test]
fn items_of_one_hash_are_twins_and_the_latest_comes_first() {
    let mut index = index([1, 2, 3]);
    for birth in [4, 5] {
        index.push(&item(birth, 2 << 32));
    }
    let births: Vec<u64> = index
        .with_hash(2 << 32)
        .into_iter()
        .map(|at| index.birth(at))
        .collect();
    assert_eq!(births, [5, 4, 2]);
    assert_eq!(index.twins(), [(1, 3), (1, 4), (3, 4)]);
}

#[test]
fn loading_ends_in_the_same_index_whatever_the_order_of_births() {
    let mut index = Index::load();
    for birth in [5, 3, 4, 1] {
        index.push(&item(birth, birth << 32));
    }
    index.stand(1, &leased(9, 7, 160, 1));
    assert_eq!(index.bear_the_first(), (0, false));
    let at = index.find(4).unwrap();
    index.stand(at, &leased(10, 8, 160, 1));
    index.stand(at, &released(11));
    let gone = index.find(1).unwrap();
    index.stand(gone, &leased(12, 9, 160, 1));
    index.remove(gone);
    let again = index.find(5).unwrap();
    index.stand(again, &leased(13, 10, 160, 1));
    index.stand(again, &leased(14, 11, 160, 1));
    index.loaded();
    assert_eq!((index.with_token(9), index.with_token(10)), (None, None));
    assert_eq!(index.with_token(11), Some(again));
    index.stand(again, &released(15));
    index.wake(&Hand::new(1));
    assert_eq!(index.with_token(7).map(|at| index.birth(at)), Some(3));
    assert_eq!(index.with_token(8), None);
    assert_eq!(ready(&mut index), [4, 5]);
    assert_eq!(index.len(), 3);
}

fn births(index: &Index) -> Vec<u64> {
    index.living().map(|at| index.birth(at)).collect()
}

#[test]
fn items_without_a_birth_count_from_1_or_are_the_last() {
    for (given, rough, first, all) in [
        (vec![0, 0, 0], true, 3, vec![1, 2, 3]),
        (vec![0, 0, 3, 4], true, 2, vec![1, 2, 3, 4]),
        (vec![0, 0, 2, 4], true, 0, vec![2, 4, 11, 12]),
        (vec![5, 0, 7], true, 0, vec![5, 7, 11]),
        (vec![5, 6, 5], true, 0, vec![5, 6, 11]),
        (vec![5, 6], false, 0, vec![5, 6]),
    ] {
        let mut index = Index::load();
        for birth in &given {
            index.push(&item(*birth, 1));
        }
        assert_eq!(index.bear_the_first(), (first, rough), "{given:?}");
        index.bear_the_rest(10);
        index.loaded();
        assert_eq!(births(&index), all, "{given:?}");
        assert_eq!(ready(&mut index), all, "{given:?}");
    }
}
