// Sun or moon: how the page looks, chosen by whoever reads it.
import { useEffect, useState } from "preact/hooks";
import { choose, follow, show, theme } from "../device/theme";

// Before anything is drawn.
show();

export function ThemeButton() {
  const [now, setNow] = useState(theme);
  useEffect(() => follow(() => setNow(theme())), []);
  const other = now === "dark" ? "light" : "dark";
  return (
    <button
      type="button"
      class="theme"
      aria-label={`Show the page ${other}`}
      title={`Show the page ${other}`}
      onClick={() => {
        choose(other);
        setNow(other);
      }}
    >
      <svg viewBox="0 0 24 24" aria-hidden="true">
        {now === "dark" ? (
          <path
            class="stroke"
            d="M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2m0 15v2M2.5 12h2m15 0h2M5.3 5.3l1.4 1.4m10.6 10.6 1.4 1.4m0-13.4-1.4 1.4M6.7 17.3l-1.4 1.4"
          />
        ) : (
          <path class="stroke" d="M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z" />
        )}
      </svg>
    </button>
  );
}
