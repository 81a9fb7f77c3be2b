//! A headless participant: publish, listen, chat, load.
