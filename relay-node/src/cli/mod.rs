//! The small tasks of the command line beside serving: what the organizer does, pairing, a look at the machine.

pub mod backup;
pub mod doctor;
pub mod festival;
pub mod new_id;
pub mod pair;
