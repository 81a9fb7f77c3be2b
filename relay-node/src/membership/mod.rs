//! Who is of the same festival, and who is trusted besides: the tokens relays show, what the organizer signs for all
//! of them, and two screens with six digits. The links are the bridge's, what people type is in `cli/`.

pub mod festival;
pub mod judge;
pub mod key_file;
pub mod organizer;
pub mod pairing;
pub mod revocation_list;
pub mod trusted_peers;
