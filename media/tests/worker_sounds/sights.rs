//! What whoever reads it is told of a listener's sound.

use media::{Command, Mended, Reason, SoundSight, SoundWish};

use super::{Hall, ask, nothing, worker_sim::ms};

const TOP: u8 = 2;

impl Hall {
    /// Somebody reads what the listener hears.
    fn watch(&mut self) {
        let session = self.sim.peers[self.listener].session;
        self.sim.tell(&Command::Watch { session, watched: true });
    }

    /// What was told last.
    fn told(&self) -> SoundSight {
        self.sim.sound_sights.last().expect("it was told").1
    }
}

fn sight(rung: u8, reason: Reason, mended: Mended) -> SoundSight {
    SoundSight { rung, reason, mended }
}

#[test]
fn a_listener_is_told_its_rung_and_why() {
    let mut hall = Hall::with_rungs(1, 1);
    hall.play(2, nothing);
    assert!(hall.sim.sound_sights.is_empty(), "nobody reads it");
    hall.watch();
    hall.sim.run(ms(20));
    assert_eq!(hall.told(), sight(TOP, Reason::Best, Mended::Not), "at once");
    for (wish, rung) in [(SoundWish::Low, 0), (SoundWish::Middle, 1)] {
        hall.wish(wish);
        hall.play(2, nothing);
        assert_eq!(hall.told(), sight(rung, Reason::Wish, Mended::Not));
    }
    hall.wish(SoundWish::High);
    hall.wire(60_000);
    hall.play(10, nothing);
    assert_eq!(hall.told(), sight(0, Reason::Link, Mended::Not));
    hall.wire(1_000_000);
    hall.play(40, nothing);
    assert_eq!(hall.told(), sight(TOP, Reason::Best, Mended::Not));
    // Of a stage elsewhere only a lower one comes.
    hall.comes_from_elsewhere([false, true, false]);
    hall.play(2, nothing);
    assert_eq!(hall.told(), sight(1, Reason::Bridge, Mended::Not));
    let times = hall.sim.sound_sights.iter().map(|(at, _)| *at).collect::<Vec<_>>();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= ms(1000)), "one in a second");
    assert!(times.len() < 15, "only what is news: {}", times.len());
}

#[test]
fn a_listener_is_told_how_its_losses_are_mended() {
    let halls = [
        (Hall::with_rungs(1, 1), Mended::Repeats),
        (Hall::with_listener(offer!("chromium_recvonly"), 1, 1, true), Mended::Copies),
    ];
    for (mut hall, mended) in halls {
        hall.watch();
        hall.play(2, nothing);
        assert_eq!(hall.told().mended, Mended::Not);
        hall.sim.down.loss_percent = 5;
        hall.play(10, nothing);
        assert_eq!(hall.told(), sight(TOP, Reason::Best, mended));
        assert_eq!(hall.sim.workers[0].stats().mending[mended as usize], 1);
        hall.sim.down.loss_percent = 0;
        hall.play(40, nothing);
        assert_eq!(hall.told().mended, Mended::Not, "it is over");
        assert_eq!(hall.sim.workers[0].stats().mending, [1, 0, 0, 0]);
    }
    let mut hall = Hall::with_rungs(1, 1);
    hall.watch();
    hall.sim.down.loss_percent = 5;
    for _ in 0..300 {
        hall.say();
        ask(&mut hall.sim, hall.listener);
    }
    assert_eq!(hall.told().mended, Mended::Answers);
}
